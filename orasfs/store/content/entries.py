"""What the cache consists of: files, each of a kind, with a size on disk and a last use.

Owns which kinds there are and how a file's path tells its kind. Pure.

A kind that is added has its files below a directory of its own in `orasfs/`, or of the names that
`kind_of` knows; nothing else has to be told of it.
"""

from dataclasses import dataclass
from enum import Enum
from itertools import pairwise


class Kind(Enum):
    """What a file of the cache is."""

    BLOB = "blob"
    PARTIAL = "partial"  # a blob that is not complete, with its map
    TEMPORARY = "temporary"  # of one process; never resumed
    LAYER = "layer"  # the bytes of an unpacked layer
    INDEX = "index"  # what an unpacked layer has in it: kept when its bytes go


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the cache.

    Attributes:
        path: below the cache's root.
        size: bytes on disk; of what is being written, what it may come to.
        used: when it was last opened, in seconds since the epoch, to the hour.
        target: the name that it gets when it is complete, "" if it has it.
    """

    path: str
    kind: Kind
    size: int
    used: int
    target: str = ""

    @property
    def digest(self) -> str:
        """The digest in its path, "" if there is none."""
        return digest_in(self.path)


def kind_of(path: str) -> Kind | None:
    """Return the kind of a file by its path below the root; None if it is not to be counted."""
    top, _, rest = path.partition("/")
    if top == "blobs" and rest.count("/") == 1:
        return Kind.BLOB
    if top == "ingest":
        if rest.endswith(".partial"):
            return Kind.PARTIAL
        return Kind.TEMPORARY if rest.endswith(".tmp") else None
    if top != "orasfs" or "/" not in rest:
        return None
    name = rest.rpartition("/")[2]
    return Kind.INDEX if name.startswith(("index", "summary")) else Kind.LAYER


def digest_in(path: str) -> str:
    """Return the digest that a path names, as `algorithm:hex`, "" if it names none."""
    parts = path.removesuffix(".partial").replace("-", "/").split("/")
    for algorithm, value in pairwise(parts):
        if algorithm in ("sha256", "sha512") and len(value) >= 64:
            return f"{algorithm}:{value}"
    return ""
