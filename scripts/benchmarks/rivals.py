"""How artifacts are pushed without orasfs: by the reference client, by curl, by the PyPI client.

Owns the commands. Each pusher brings a file or a directory on local disk to `HOST/REPOSITORY:TAG`
and returns when the tag is there. curl does what the reference client does, in the same order:
first hash (a directory: pack and hash, in one pipe), then one upload, then config and manifest.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from scripts.benchmarks.data import Blob
from scripts.benchmarks.processes import run
from scripts.benchmarks.publish import Published, packed_layer, put, raw_layer
from tests.support.docker_registry import DockerRegistry
from tests.support.reference import Oras, ReferenceClient

CURL = "hash, then curl"
PYPI = "PyPI oras"

_UPLOAD = """
set -e
session=$(curl -sSf -X POST -D - -o /dev/null "$1" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
curl -sSf -o /dev/null -T "$2" -H 'Content-Type: application/octet-stream' "$session&digest=$3"
"""
_PACK = 'tar --sort=name -cf - -C "$1" "$2" | gzip -6 | tee "$3" | $4'
_OPENSSL = "openssl dgst -sha256 -r"
_PYPI = """
import sys, oras.client
client = oras.client.OrasClient(insecure=True)
client.push(target=sys.argv[1], files=[sys.argv[2]])
"""

Push = Callable[[Path, Published], None]


@dataclass(frozen=True, slots=True)
class Rival:
    """A program that pushes.

    Attributes:
        name: of the program.
        push: brings a file or a directory to a tag.
        is_client: whether it is the reference client.
        is_reference: whether targets are measured against it.
        keeps_attributes: whether what it packs can be restored with modes, times and links.
    """

    name: str
    push: Push
    is_client: bool = False
    is_reference: bool = False
    keeps_attributes: bool = True


def rivals(registry: DockerRegistry, spool: Path, client: ReferenceClient | None) -> list[Rival]:
    """Return those that can run here; `spool` is a directory for what they pack."""
    found = []
    if client is not None:
        name, push = f"{client.name} push", partial(_push_by, client)
        found.append(Rival(name, push, is_client=True, is_reference=True))
    # Of the library's first version nobody knows how it compares with the command of today.
    is_reference = not isinstance(client, Oras)
    found.append(Rival(CURL, Curl(registry, spool).push, is_reference=is_reference))
    if importlib.util.find_spec("oras") is not None:
        found.append(Rival(PYPI, _pypi, keeps_attributes=False))
    return found


def _push_by(client: ReferenceClient, path: Path, place: Published) -> None:
    script = 'cd "$1" && shift && exec "$@"'
    run(["sh", "-c", script, "sh", path.parent, *client.push(place.reference, path.name)])


def _pypi(path: Path, place: Published) -> None:
    script = 'cd "$1" && exec "$2" -c "$3" "$4" "$5"'
    run(["sh", "-c", script, "sh", path.parent, sys.executable, _PYPI, place.reference, path.name])


class Curl:
    """Pushes by shell commands, with the faster one of the hashes that there are."""

    def __init__(self, registry: DockerRegistry, spool: Path) -> None:
        self._registry = registry
        self._spool = spool
        # sha256sum of coreutils 9.1 takes three times as long where the processor has SHA-NI.
        self._hash = _OPENSSL if shutil.which("openssl") else "sha256sum"

    def push(self, path: Path, place: Published) -> None:
        """Hash or pack, upload, and put config and manifest."""
        if path.is_dir():
            blob = self._packed(path)
            layer = packed_layer(blob, path.name)
        else:
            blob = Blob(path, _digest(run([*self._hash.split(), path])), path.stat().st_size)
            layer = raw_layer(blob, path.name)
        url = f"http://{place.host}/v2/{place.repository}/blobs/uploads/"
        run(["sh", "-c", _UPLOAD, "sh", url, blob.path, blob.digest])
        put(self._registry, place, layer)

    def _packed(self, path: Path) -> Blob:
        target = self._spool / "packed.tar.gz"
        out = run(["sh", "-c", _PACK, "sh", path.parent, path.name, target, self._hash])
        return Blob(target, _digest(out), target.stat().st_size)


def _digest(words: str) -> str:
    return f"sha256:{words.split(maxsplit=1)[0]}"
