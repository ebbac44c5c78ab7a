"""Who is who in a draft's tree: one object for each real inode that somebody knows.

Owns the names by which an inode is known, and so its path. Pure bookkeeping: touches no disk.

INVARIANT: hard links are one `Identity`, a rename keeps it, and an inode number that the disk uses
again is another one: as long as the old one is held somewhere, their serials differ.
"""

import os
import stat
from collections import Counter
from collections.abc import Collection
from weakref import WeakValueDictionary


class Identity:
    """A file, directory or symlink of a draft, as long as somebody holds it.

    Attributes:
        number: the inode number on the staging disk.
        serial: tells it from those that had the number before.
        names: the (directory, name) pairs by which it is known; none of a top directory, and of
            what has been removed.
        fds: descriptors by which it is open.
        writers: how many of them are for writing.
        last: what was known of it when its last name went, None before: it is half a kilobyte.
    """

    __slots__ = (
        *("__weakref__", "fds", "is_top", "kind", "last", "names", "number", "serial"),
        "writers",
    )

    def __init__(self, status: os.stat_result, serial: int = 0, *, is_top: bool = False) -> None:
        self.number = status.st_ino
        self.serial = serial
        self.kind = stat.S_IFMT(status.st_mode)
        self.is_top = is_top
        # Most have one name and are not open, and there are many: an empty set is 216 bytes.
        self.names: Collection[tuple[Identity, str]] = ()
        self.fds: tuple[int, ...] = ()
        self.writers = 0
        self.last: os.stat_result | None = None

    def __repr__(self) -> str:
        names = sorted(name for _, name in self.names)
        return f"<Identity {self.number}.{self.serial} {names}>"

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.kind == stat.S_IFDIR

    @property
    def is_removed(self) -> bool:
        """Whether no name leads to it any more."""
        return not self.is_top and not self.names

    def gain(self, parent: "Identity", name: str) -> None:
        """Have a name more."""
        if isinstance(self.names, set):
            self.names.add((parent, name))
        elif (parent, name) not in self.names:
            self.names = {*self.names, (parent, name)} if self.names else ((parent, name),)

    def lose(self, parent: "Identity", name: str) -> None:
        """Have a name less."""
        if isinstance(self.names, set):
            self.names.discard((parent, name))
        elif (parent, name) in self.names:
            self.names = ()

    def parts(self) -> list[str] | None:
        """Return the names from the top to here; None if no name leads here."""
        parts: list[str] = []
        here = self
        while not here.is_top:
            if not here.names:
                return None
            here, name = next(iter(here.names))
            parts.append(name)
        return parts[::-1]


class Identities:
    """The identities of one tree, found by inode number."""

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[int, Identity] = WeakValueDictionary()
        self._retired: Counter[int] = Counter()

    def known(self, status: os.stat_result) -> Identity | None:
        """Return the identity of an inode if somebody holds it."""
        return self._alive.get(status.st_ino)

    def named(self, parent: Identity, name: str, status: os.stat_result) -> Identity:
        """Return the identity of what has this name, and note the name."""
        found = self._alive.get(status.st_ino)
        if found is None:
            found = Identity(status, self._retired[status.st_ino])
            self._alive[status.st_ino] = found
        found.gain(parent, name)
        return found

    def removed(self, parent: Identity, name: str, status: os.stat_result) -> None:
        """Note that a name is gone; `status` is from before."""
        found = self._alive.get(status.st_ino)
        if found is None:
            return
        found.lose(parent, name)
        is_gone = stat.S_ISDIR(status.st_mode) or status.st_nlink <= 1
        if is_gone or not found.names:
            found.last = status
        if is_gone:
            found.names = ()
            del self._alive[status.st_ino]
            self._retired[status.st_ino] += 1

    def moved(
        self, status: os.stat_result, old: tuple[Identity, str], new: tuple[Identity, str]
    ) -> None:
        """Note that what had the name `old` now has `new`."""
        found = self._alive.get(status.st_ino)
        if found is not None:
            found.lose(*old)
            found.gain(*new)
