"""Where else a registry can be read: containerd's `certs.d/HOST/hosts.toml`.

Owns the format of that file, where it is looked for, and what an ill-formed one is told. Reads
files, and makes no request; `orasfs.registry.mirrors` follows what it says.

Source: containerd docs/hosts.md. What this project does not do (`proxy`) is refused rather than
passed over: a place that is behind a proxy cannot be reached without.
"""

import enum
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orasfs.errors import InvalidContent

DIRECTORIES = (Path("/etc/containerd/certs.d"), Path("/etc/docker/certs.d"))
FILE_NAME = "hosts.toml"
DEFAULT = "_default"
API_ROOT = "/v2"

_MAX_FILE_BYTES = 1024 * 1024
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_USER = re.compile(r"//[^/]*@")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


class Capability(enum.Enum):
    """What a place may be asked."""

    PULL = "pull"  # content by digest
    RESOLVE = "resolve"  # what a tag names
    PUSH = "push"


ALL = frozenset(Capability)


@dataclass(frozen=True, slots=True)
class Place:
    """A host that may be asked in a registry's stead, or the registry itself.

    Attributes:
        url: `SCHEME://HOST[:PORT]`, in lower case.
        root: the path of the API there, in place of `/v2`.
        capabilities: what it may be asked.
        authorities: PEM files to trust besides the system's.
        client: (certificate, key) to show, PEM.
        is_insecure: whether its certificate is not verified.
        headers: to send it.
        connect_seconds: for a connection, None for the usual.
    """

    url: str
    root: str = API_ROOT
    capabilities: frozenset[Capability] = ALL
    authorities: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path], ...] = ()
    is_insecure: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    connect_seconds: float | None = None

    @property
    def host(self) -> str:
        """`HOST[:PORT]`."""
        return self.url.partition("://")[2]


@dataclass(frozen=True, slots=True)
class Hosts:
    """What a file says of a registry.

    Attributes:
        mirrors: the places to ask, in order.
        server: the one that is asked last, None for the registry itself.
    """

    mirrors: tuple[Place, ...] = ()
    server: Place | None = None


def find_file(directories: Sequence[Path], host: str) -> Path | None:
    """Return the file for a registry (`HOST[:PORT]`), None if there is none.

    One of its own name is taken before `_default`, whatever directory it is in.
    """
    name, colon, port = host.rpartition(":")
    names = [host, DEFAULT]
    if colon and port.isdigit():
        names.insert(0, f"{name}_{port}_")
    for directory_name in names:
        for directory in directories:
            path = directory / directory_name / FILE_NAME
            if path.is_file():
                return path
    return None


def read_hosts(path: Path) -> Hosts:
    """Read a file.

    Raises:
        InvalidContent: it cannot be read or is ill-formed; the message says where and what.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidContent(f"{path}: {error.strerror}") from error
    if len(raw) > _MAX_FILE_BYTES:
        raise InvalidContent(f"{path}: larger than {_MAX_FILE_BYTES} bytes")
    try:
        return parse_hosts(raw, path.parent)
    except InvalidContent as error:
        raise InvalidContent(f"{path}: {error}") from error


def parse_hosts(raw: bytes, directory: Path) -> Hosts:
    """Parse the content of a file; relative paths in it are below `directory`.

    Raises:
        InvalidContent: it is ill-formed; the message names the field.
    """
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidContent(f"not TOML: {error}") from error
    entries = document.get("host", {})
    if not isinstance(entries, dict) or not all(isinstance(e, dict) for e in entries.values()):
        raise InvalidContent('host: expected tables, as [host."https://mirror.example"]')
    mirrors = tuple(
        _place(address, entry, directory, f'host."{_USER.sub("//…@", address)[:200]}"')
        for address, entry in entries.items()
    )
    server = document.get("server")
    if server is None:
        return Hosts(mirrors)
    if not isinstance(server, str):
        raise InvalidContent('server: expected an address, as "https://registry.example"')
    return Hosts(mirrors, _place(server, document, directory, "server"))


def _place(address: str, entry: Mapping[str, Any], directory: Path, where: str) -> Place:
    if "proxy" in entry:
        raise InvalidContent(f"{where}: proxy: not supported; name it in HTTPS_PROXY instead")
    url, path = _address(address, where)
    overrides = _flag(entry, "override_path", where)
    is_complete = overrides or path.endswith(API_ROOT)
    return Place(
        url=url,
        root=path if is_complete else f"{path}{API_ROOT}",
        capabilities=_capabilities(entry, where),
        authorities=tuple(directory / name for name in _texts(entry, "ca", where)),
        client=tuple(_client(entry, directory, where)),
        is_insecure=_flag(entry, "skip_verify", where),
        headers=tuple(_headers(entry, where)),
        connect_seconds=_seconds(entry, "dial_timeout", where),
    )


def _address(address: str, where: str) -> tuple[str, str]:
    """Return `SCHEME://HOST[:PORT]`, and the path behind it without a slash at the end."""
    full = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(full)
        is_usable = parts.port is None or parts.port > 0
    except ValueError as error:
        raise InvalidContent(f"{where}: not an address: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_usable:
        raise InvalidContent(f"{where}: expected https://HOST[:PORT] or http://HOST[:PORT]")
    if parts.username or parts.query or parts.fragment or _UNSAFE.search(full):
        raise InvalidContent(
            f"{where}: only a host, a port and a path may be in it; credentials belong into the "
            "credential file"
        )
    return f"{parts.scheme}://{parts.netloc.lower()}", parts.path.rstrip("/")


def _capabilities(entry: Mapping[str, Any], where: str) -> frozenset[Capability]:
    if "capabilities" not in entry:
        return ALL
    names = {capability.value for capability in Capability}
    found = entry["capabilities"]
    if not isinstance(found, list) or not all(
        isinstance(name, str) and name in names for name in found
    ):
        expected = ", ".join(f'"{capability.value}"' for capability in Capability)
        raise InvalidContent(f"{where}: capabilities: expected a list of {expected}")
    return frozenset(Capability(name) for name in found)


def _texts(entry: Mapping[str, Any], key: str, where: str) -> list[str]:
    found = entry.get(key, [])
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(t, str) and t for t in texts):
        raise InvalidContent(f"{where}: {key}: expected a path or a list of paths")
    return texts


def _client(entry: Mapping[str, Any], directory: Path, where: str) -> Iterator[tuple[Path, Path]]:
    """Yield pairs; a file alone has the key in it."""
    found = entry.get("client", [])
    for item in found if isinstance(found, list) else [found]:
        pair = [item, ""] if isinstance(item, str) else item
        is_pair = isinstance(pair, list) and len(pair) == 2 and pair[0]
        if not is_pair or not all(isinstance(name, str) for name in pair):
            raise InvalidContent(
                f"{where}: client: expected a path, or a list of paths or of pairs of them"
            )
        yield directory / pair[0], directory / (pair[1] or pair[0])


def _headers(entry: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    found = entry.get("header", {})
    if not isinstance(found, dict):
        raise InvalidContent(f"{where}: header: expected a table")
    for name, value in found.items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise InvalidContent(f"{where}: header: {name}: expected a text or a list of texts")
        if not _HEADER_NAME.fullmatch(name) or any(_UNSAFE.search(v) for v in values):
            raise InvalidContent(f"{where}: header: {name[:100]!r}: not a header")
        yield name, ", ".join(values)


def _flag(entry: Mapping[str, Any], key: str, where: str) -> bool:
    found = entry.get(key, False)
    if not isinstance(found, bool):
        raise InvalidContent(f"{where}: {key}: expected true or false")
    return found


def _seconds(entry: Mapping[str, Any], key: str, where: str) -> float | None:
    found = entry.get(key)
    if found is None:
        return None
    match = _DURATION.fullmatch(found) if isinstance(found, str) else None
    seconds = float(match[1]) * _UNIT_SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InvalidContent(f'{where}: {key}: expected a duration, as "5s"')
    return seconds
