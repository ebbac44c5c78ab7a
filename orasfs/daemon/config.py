"""How to mount: the values of all options, and the parsing of `-o`.

Owns the names, defaults and checks of mount options. Light, because the command parses options
before it decides to load anything else: no trio, no HTTP, no FUSE.

INVARIANT: an option that is not known is an error, never a surprise later.
"""

import ipaddress
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

from orasfs.daemon.secrets import MountSecrets
from orasfs.errors import InvalidInput
from orasfs.oci.reference import parse_registry
from orasfs.store.content.budget import Budget, parse_budget


@dataclass(frozen=True, slots=True)
class MountConfig:
    """Everything that `orasfs mount` can be told; docs/CONFIGURATION.md describes the options.

    Attributes:
        source: SOURCE in its canonical form.
        mountpoint: an absolute path without symbolic links.
        cache: the directory of the cache.
        cache_budget: how large it may be.
        is_offline: whether the network is never asked.
        transport: who speaks with the kernel: `auto`, `pyfuse3` or `device`.
        plain_http: True and False decide for all registries, None lets each be looked at.
        is_strict: whether nothing unverified is served.
        packing: what directories of drafts become: `tar` or `files`.
        compression: of packed directories: `gzip`, `zstd` or `none`.
        allow_links: pack links that no pull would restore.
        index: of indexes beside layers: `use` those published, `publish` too, or `ignore` them.
        may_delete: whether tags and manifests can be removed.
        is_eager: whether blobs of drafts are uploaded before the commit.
        edits: whether a write into what is committed begins a draft on top of it.
        kernel_flags: mount options that the kernel understands by itself.
        hosts_directories: where mirrors are looked up in place of the usual directories.
        concurrency: small requests, and uploads, to one registry at a time.
        credential_files: those to look into in place of the usual ones.
        ca_file, cert_file, key_file: see `orasfs.registry.trust`.
        is_insecure: whether TLS certificates are not verified.
        addresses: (host, port, address, port or 0) of hosts that are reached elsewhere.
        secrets: what never was an option's text.
    """

    source: str = "none"
    mountpoint: str = ""
    cache: Path = Path()
    cache_budget: Budget = field(default_factory=Budget)
    registries: tuple[str, ...] = ()
    tag_ttl_seconds: float = 30.0
    wait_seconds: float = 30.0
    pin: bool = False
    is_offline: bool = False
    platform: str = ""
    media_type: str = ""
    merge_images: bool = True
    catalog_complete: bool = False
    is_strict: bool = False
    transport: str = "auto"
    plain_http: bool | None = None
    allow_other: bool = False
    read_only: bool = False
    packing: str = "tar"
    compression: str = "gzip"
    allow_links: bool = False
    index: str = "use"
    may_delete: bool = False
    is_eager: bool = False
    edits: bool = False
    log_level: str = "INFO"
    log_file: Path | None = None
    kernel_flags: tuple[str, ...] = ()
    hosts_directories: tuple[Path, ...] = ()
    concurrency: int = 8
    credential_files: tuple[Path, ...] = ()
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    is_insecure: bool = False
    addresses: tuple[tuple[str, int, str, int], ...] = ()
    secrets: MountSecrets = field(default_factory=MountSecrets, compare=False)


def default_cache() -> Path:
    """Return `$ORAS_CACHE`, which the reference client has too, or `$XDG_CACHE_HOME/orasfs`."""
    given = os.environ.get("ORAS_CACHE")
    return Path(given).absolute() if given else platformdirs.user_cache_path("orasfs")


# What mount(8), fstab and systemd add for themselves, and what FUSE mounts have anyway.
IGNORED = frozenset(
    {
        *("rw", "auto", "noauto", "user", "users", "nouser", "owner", "group", "nofail"),
        *("_netdev", "defaults", "dev", "nodev", "suid", "nosuid", "exec", "async"),
        *("relatime", "norelatime", "atime", "noatime", "diratime", "nodiratime"),
        *("strictatime", "nostrictatime", "lazytime", "nolazytime"),
    }
)
KERNEL_FLAGS = frozenset({"noexec"})
MAX_CONCURRENCY = 64
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_RESOLVE = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5}):"
    r"(?:(?P<bracketed>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<other>[0-9]{1,5}))?|(?P<bare>[0-9A-Fa-f:.]+))"
)
_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?")

# Each takes an option's value and what has been parsed so far, and returns what it becomes.
_Parser = Callable[[str, MountConfig], dict[str, Any]]


def _seconds(name: str, field: str, *, least: float) -> _Parser:
    def parse(value: str, _: MountConfig) -> dict[str, Any]:
        try:
            seconds = float(value.removesuffix("s"))
        except ValueError:
            seconds = math.nan
        if not least <= seconds < math.inf:
            raise InvalidInput(
                f"option {name}={value}: expected a number of seconds from {least:g}"
            )
        return {field: seconds}

    return parse


def _choice(name: str, field: str, choices: dict[str, Any]) -> _Parser:
    def parse(value: str, _: MountConfig) -> dict[str, Any]:
        if value not in choices:
            raise InvalidInput(f"option {name}={value}: expected {' or '.join(choices)}")
        return {field: choices[value]}

    return parse


def _registry(value: str, config: MountConfig) -> dict[str, Any]:
    host = parse_registry(value)
    return {"registries": tuple(dict.fromkeys((*config.registries, host)))}


def _platform(value: str, _: MountConfig) -> dict[str, Any]:
    if not _PLATFORM.fullmatch(value):
        raise InvalidInput(f"option platform={value}: expected OS/ARCHITECTURE[/VARIANT]")
    return {"platform": value}


def _media_type(value: str, _: MountConfig) -> dict[str, Any]:
    if not value:
        raise InvalidInput("option mediatype: expected a pattern, for example text/*")
    return {"media_type": value}


def _path(field: str) -> _Parser:
    def parse(value: str, _: MountConfig) -> dict[str, Any]:
        if not value:
            raise InvalidInput(f"option {field}: expected a path")
        return {field: Path(value).expanduser().absolute()}

    return parse


def _cache_size(value: str, _: MountConfig) -> dict[str, Any]:
    try:
        return {"cache_budget": parse_budget(value)}
    except InvalidInput as error:
        raise InvalidInput(f"option cache_size: {error}") from error


def _registry_config(value: str, config: MountConfig) -> dict[str, Any]:
    path = _path("registry_config")(value, config)["registry_config"]
    return {"credential_files": tuple(dict.fromkeys((*config.credential_files, path)))}


def _concurrency(value: str, _: MountConfig) -> dict[str, Any]:
    if not re.fullmatch(r"[0-9]{1,3}", value) or not 1 <= int(value) <= MAX_CONCURRENCY:
        raise InvalidInput(
            f"option concurrency={value}: expected a number from 1 to {MAX_CONCURRENCY}"
        )
    return {"concurrency": int(value)}


def _hosts_directory(value: str, config: MountConfig) -> dict[str, Any]:
    path = _path("hosts_dir")(value, config)["hosts_dir"]
    return {"hosts_directories": tuple(dict.fromkeys((*config.hosts_directories, path)))}


def _resolve(value: str, config: MountConfig) -> dict[str, Any]:
    match = _RESOLVE.fullmatch(value)
    if match is None:
        raise InvalidInput(f"option resolve={value}: expected HOST:PORT:ADDRESS[:PORT]")
    try:
        address = str(ipaddress.ip_address((match["bracketed"] or match["bare"]).strip("[]")))
    except ValueError as error:
        raise InvalidInput(f"option resolve={value}: not an IP address") from error
    host = match["host"].lower().strip("[]")
    entry = (host, int(match["port"]), address, int(match["other"] or 0))
    return {"addresses": (*config.addresses, entry)}


def _log_level(value: str, _: MountConfig) -> dict[str, Any]:
    if value.upper() not in LOG_LEVELS:
        raise InvalidInput(f"option log_level={value}: expected one of {', '.join(LOG_LEVELS)}")
    return {"log_level": value.upper()}


_VALUED: dict[str, _Parser] = {
    "registry": _registry,
    "tag_ttl": _seconds("tag_ttl", "tag_ttl_seconds", least=0),
    "wait": _seconds("wait", "wait_seconds", least=0.1),
    "platform": _platform,
    "mediatype": _media_type,
    "images": _choice("images", "merge_images", {"merged": True, "blobs": False}),
    "catalog": _choice("catalog", "catalog_complete", {"complete": True}),
    "verify": _choice("verify", "is_strict", {"lazy": False, "strict": True}),
    "transport": _choice(
        "transport", "transport", {name: name for name in ("auto", "pyfuse3", "device")}
    ),
    "pack": _choice("pack", "packing", {"tar": "tar", "files": "files"}),
    "compression": _choice(
        "compression", "compression", {name: name for name in ("gzip", "zstd", "none")}
    ),
    "index": _choice("index", "index", {name: name for name in ("use", "publish", "ignore")}),
    "links": _choice("links", "allow_links", {"inside": False, "any": True}),
    "plain_http": _choice("plain_http", "plain_http", {"true": True, "false": False}),
    "registry_config": _registry_config,
    "concurrency": _concurrency,
    "hosts_dir": _hosts_directory,
    "resolve": _resolve,
    "ca_file": _path("ca_file"),
    "cert_file": _path("cert_file"),
    "key_file": _path("key_file"),
    "cache": _path("cache"),
    "cache_size": _cache_size,
    "log_file": _path("log_file"),
    "log_level": _log_level,
}
_FLAGS: dict[str, dict[str, Any]] = {
    "pin": {"pin": True},
    "offline": {"is_offline": True},
    "plain_http": {"plain_http": True},
    "insecure": {"is_insecure": True},
    "allow_other": {"allow_other": True},
    "ro": {"read_only": True},
    "rw": {"read_only": False},
    "delete": {"may_delete": True},
    "eager": {"is_eager": True},
    "edit": {"edits": True},
}


def parse_options(texts: Iterable[str], base: MountConfig | None = None) -> MountConfig:
    r"""Parse the values of `-o`, each a comma-separated list; `\,` is a comma in a value.

    Raises:
        InvalidInput: an option is not known, or its value is not valid; the message names it.
    """
    config = base or MountConfig(cache=default_cache())
    for text in texts:
        for word in re.split(r"(?<!\\),", text):
            config = replace(config, **_parse_word(word.strip().replace("\\,", ","), config))
    return config


def _parse_word(word: str, config: MountConfig) -> dict[str, Any]:
    name, equals, value = word.partition("=")
    if equals and name in _VALUED:
        return _VALUED[name](value, config)
    if not equals and name in _FLAGS:
        return _FLAGS[name]
    if not word or name in IGNORED or name == "comment" or name.startswith("x-"):
        return {}
    if name in KERNEL_FLAGS:
        return {"kernel_flags": tuple(dict.fromkeys((*config.kernel_flags, name)))}
    if name in _VALUED:
        raise InvalidInput(f"option {name}: needs a value: {name}=…")
    if name in _FLAGS:
        raise InvalidInput(f"option {name}: takes no value")
    raise InvalidInput(f"option {name!r}: not known; known are {', '.join(option_names())}")


def option_names() -> tuple[str, ...]:
    """Return the names of the options that do something."""
    return tuple(sorted({*_VALUED, *_FLAGS, *KERNEL_FLAGS} - IGNORED))
