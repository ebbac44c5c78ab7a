"""Listings of directories that nobody opens: the kernel says of which, and where to go on.

Owns positions in listings, and which listings are kept for readers in the middle of one. OPENDIR
is answered with ENOSYS: the kernel then opens and closes directories by itself
(FUSE_NO_OPENDIR_SUPPORT of protocol 7.29), so that a walk over directories that it has listed
before asks nothing; and it keeps the names of all directories, those that change among them.

A position is the number of a listing above its lowest 32 bits, and in them how many entries, "."
and ".." among them, are before it. Number 0 are listings of what stays as it is, in which a
position means the same to everybody.

INVARIANT: before a reader is told that a listing of names that may change ends, the kernel has
dropped what it kept of it: so the next reader asks again.
INVARIANT: no listing is empty, since the kernel would keep an empty one for good: there are "."
and "..".
INVARIANT: a listing that is not kept any more is begun anew and goes on at the same place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from orasfs.fuse.device.handlers import Answer
from orasfs.fuse.device.replies import DOTS, POSITION_MASK, Encoder
from orasfs.fuse.device.requests import List
from orasfs.vfs.operations import DirectoryEntry, Fh, Ino, MemberRow, Operations

KEPT = 64  # listings that somebody may be in the middle of
_NUMBERS = 1 << 30  # of listings, until the first is used again
_AT_BITS = POSITION_MASK.bit_length()
_CLOSED = Fh(0)


@dataclass(slots=True)
class _Listing:
    """A listing, and how many wait for it just now."""

    ino: Ino
    fh: Fh
    number: int
    readers: int = 0

    @property
    def key(self) -> tuple[Ino, int]:
        return self.ino, self.number


class Listings:
    """Answers READDIR and READDIRPLUS.

    Args:
        operations: the filesystem, whose open directories these listings are.
        encoder: knows whose the files are.
        drop: lets the kernel drop the names of a directory, before it returns; it does not wait.
    """

    def __init__(
        self, operations: Operations, encoder: Encoder, drop: Callable[[Ino], None]
    ) -> None:
        self._operations = operations
        self._encoder = encoder
        self._drop = drop
        self._kept: dict[tuple[Ino, int], _Listing] = {}  # the least recently read first
        self._number = 0

    def list_now(self, request: List) -> Answer | None:
        """Return names that are at hand."""
        kept = listing = self._going_on(request)
        if listing is None:
            fh = self._operations.opendir_now(request.ino)
            if fh is None:
                return None
            listing = self._begin(request.ino, fh)
        try:
            answer = self._members(listing, request)
            if answer is None:
                found = self._operations.readdir_now(listing.fh, _after_dots(request))
                answer = None if found is None else self._entries(listing, request, found)
        except BaseException:
            self._end(listing)
            raise
        if answer is None and kept is None:
            self._end(listing)  # who waits begins another
        return answer

    async def list(self, request: List) -> Answer:
        """Return names, waiting for them if need be."""
        listing = self._going_on(request)
        if listing is None:
            listing = self._begin(request.ino, await self._operations.opendir(request.ino))
        listing.readers += 1
        try:
            found = await self._operations.readdir(listing.fh, _after_dots(request))
        except BaseException:
            listing.readers -= 1
            self._end(listing)
            raise
        listing.readers -= 1
        answer = self._entries(listing, request, found)
        if not self._is_kept(listing):
            self._end(listing)
        return answer

    def _going_on(self, request: List) -> _Listing | None:
        """Return the listing that a position is in, if it is kept."""
        if not _at(request):
            return None
        listing = self._kept.pop((request.ino, request.position >> _AT_BITS), None)
        if listing is not None:
            self._kept[listing.key] = listing
        return listing

    def _begin(self, ino: Ino, fh: Fh) -> _Listing:
        """Keep a listing from now on, and let go of what has not been read for longest."""
        number = 0
        if not self._operations.keeps_names(fh):
            self._number = number = self._number % _NUMBERS + 1
        listing = _Listing(ino, fh, number)
        before = self._kept.pop(listing.key, None)
        if before is not None:
            self._end(before)
        self._kept[listing.key] = listing
        if len(self._kept) > KEPT:
            self._end(next(iter(self._kept.values())))
        return listing

    def _is_kept(self, listing: _Listing) -> bool:
        return self._kept.get(listing.key) is listing

    def _end(self, listing: _Listing) -> None:
        """Let go of a listing, now or after those who wait for it."""
        if self._is_kept(listing):
            del self._kept[listing.key]
        if not listing.readers and listing.fh:
            self._operations.releasedir(listing.fh)
            listing.fh = _CLOSED

    def _members(self, listing: _Listing, request: List) -> Answer | None:
        """Return entries of a directory of one layer, None if it is none."""
        position = _position(listing, request)
        body = head = self._encoder.dots(request.ino, position, is_plus=request.is_plus)
        counted: Sequence[Ino] = ()

        def consume(rows: Iterator[MemberRow]) -> Sequence[Ino]:
            nonlocal body, counted
            before = (listing.number << _AT_BITS) + DOTS + _after_dots(request)
            room = request.size - len(head)
            entries, inos = self._encoder.members(rows, before, room, is_plus=request.is_plus)
            body, counted = head + entries, inos if request.is_plus else ()
            return counted

        if not self._operations.list_members(listing.fh, _after_dots(request), consume):
            return None
        return self._answer(listing, body, counted)

    def _entries(
        self, listing: _Listing, request: List, found: Sequence[DirectoryEntry]
    ) -> Answer:
        """Return entries that the kernel then counts."""
        position = _position(listing, request)
        head = self._encoder.dots(request.ino, position, is_plus=request.is_plus)
        before = (listing.number << _AT_BITS) + DOTS
        body, counted = self._encoder.listing(
            found, before, request.size - len(head), is_plus=request.is_plus
        )
        for ino in counted:
            self._operations.count_lookup(ino)
        return self._answer(listing, head + body, counted)

    def _answer(self, listing: _Listing, body: bytes, counted: Sequence[Ino]) -> Answer:
        """Return an answer whose entries have been counted; an empty one is the end."""
        if not body:
            if not self._operations.keeps_names(listing.fh):
                self._drop(listing.ino)
            self._end(listing)
        return Answer(body, partial(self._forget, counted) if counted else None)

    def _forget(self, inos: Sequence[Ino]) -> None:
        for ino in inos:
            self._operations.forget(ino, 1)


def _at(request: List) -> int:
    """Return how many entries are before a position."""
    return request.position & POSITION_MASK


def _after_dots(request: List) -> int:
    """Return how many entries are before a position, without "." and ".."."""
    return max(0, _at(request) - DOTS)


def _position(listing: _Listing, request: List) -> int:
    """Return the position in this listing, which may have been begun anew."""
    return listing.number << _AT_BITS | _at(request)
