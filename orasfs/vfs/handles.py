"""Handles of open files and directories; pure.

Owns the numbers and the snapshots of listings. Knows not how a listing grows.

INVARIANT: a snapshot only grows, and an entry's position in it is its id, so that a reader that
comes back with an id continues exactly there (readdir, seekdir).
"""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from orasfs.vfs.operations import Fh

HandleT = TypeVar("HandleT")
EntryT = TypeVar("EntryT")


class HandleTable(Generic[HandleT]):
    """Open handles by number; numbers are not used again."""

    def __init__(self) -> None:
        self._handles: dict[Fh, HandleT] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[HandleT]:
        return iter(list(self._handles.values()))

    def __contains__(self, handle: object) -> bool:
        return any(each is handle for each in self._handles.values())

    def add(self, handle: HandleT) -> Fh:
        """Return a number for the handle."""
        fh = Fh(self._next)
        self._next += 1
        self._handles[fh] = handle
        return fh

    def get(self, fh: Fh) -> HandleT:
        """Return the handle.

        Raises:
            KeyError: it is not open.
        """
        return self._handles[fh]

    def remove(self, fh: Fh) -> HandleT:
        """Close the number and return the handle.

        Raises:
            KeyError: it is not open.
        """
        return self._handles.pop(fh)


class Snapshot(Generic[EntryT]):
    """The entries of one open directory, as far as they are known."""

    def __init__(self) -> None:
        self._entries: list[EntryT] = []
        self._is_complete = False

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self)}{'' if self._is_complete else ' and more'}>"

    def grow(self, entries: Sequence[EntryT]) -> None:
        """Append entries; none means that there are no more."""
        if entries:
            self._entries.extend(entries)
        else:
            self._is_complete = True

    def lacks(self, start_id: int) -> bool:
        """Tell whether the entry behind `start_id` is not known yet, but may come."""
        return start_id >= len(self._entries) and not self._is_complete

    def batch(self, start_id: int, limit: int) -> Sequence[tuple[int, EntryT]]:
        """Return up to `limit` entries behind `start_id`, each with the id to continue behind."""
        start = max(start_id, 0)
        chosen = self._entries[start : start + limit]
        return [(start + number + 1, entry) for number, entry in enumerate(chosen)]
