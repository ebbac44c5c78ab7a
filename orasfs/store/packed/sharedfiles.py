"""Files of a layer whose bytes are in an earlier layer that is unpacked here.

Owns which they are: the file of the same path and size in one of the earlier layers (*donors*), if
its bytes have the digest that is wanted. Renamed files are not looked for. Which layers may be
donors is the caller's to say. What blocks is done in worker threads.

INVARIANT: bytes are given only of a file that was found to have the wanted digest: a small one by
hashing it here, one that is a blob of its own by the name of that. Nothing here fetches.
"""

import hashlib
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, Protocol

import trio

from orasfs.aio import SingleFlight
from orasfs.errors import OrasfsError, StorageFailure, Unsupported
from orasfs.store.files import disk
from orasfs.store.packed.members import Files, MemberReader
from orasfs.tree.filedigests import FileDigests
from orasfs.tree.layerindex import LayerIndex
from orasfs.tree.samepaths import same_paths

_AHEAD = 64  # members that are judged together, as they are read together
_AHEAD_BYTES = 256 * 1024  # that are hashed for one that is wanted, beside its own
_UNKNOWN, _NOWHERE, _FIRST = 0, 1, 2  # verdicts; from `_FIRST` on, the number of a donor


class Donor(Files, Protocol):
    """An unpacked layer: its index is right, and its files are open."""

    @property
    def index(self) -> LayerIndex:
        """The layer's members."""
        ...


FindDonors = Callable[[], Awaitable[Sequence[Donor]]]


@dataclass(frozen=True, slots=True)
class _Match:
    """A donor, and which of its members have path and size of ours; 0 for none."""

    donor: Donor
    ordinals: "array[int]"


class SharedFiles:
    """What one layer shares with earlier ones.

    Args:
        index: of the layer.
        digests: of its files, for which the artifact vouches.
        find: returns the donors; is called when the first file is wanted.
        nursery: where they are found.
        limiter: of threads that read members.
    """

    def __init__(
        self,
        index: LayerIndex,
        digests: FileDigests,
        find: FindDonors,
        nursery: trio.Nursery,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self._index = index
        self._digests = digests
        self._find = find
        self._limiter = limiter
        self._flights: SingleFlight[tuple[_Match, ...]] = SingleFlight(nursery)
        self._matches: tuple[_Match, ...] | None = None
        self._verdicts = bytearray(len(index))

    def __repr__(self) -> str:
        donors = "unknown" if self._matches is None else len(self._matches)
        return f"<SharedFiles with {donors} donors>"

    @property
    def has_donors(self) -> bool:
        """Whether there are earlier layers with anything at the same paths, as far as is known."""
        return bool(self._matches)

    def may_have(self, ordinal: int) -> bool:
        """Tell whether a file may be shared, as far as that is known."""
        is_possible = self._matches is None or bool(self._matches)
        return is_possible and self._verdicts[ordinal] != _NOWHERE

    def open(self, ordinal: int) -> MemberReader | None:
        """Open a file that was found to be shared; None for any other one."""
        verdict = self._verdicts[ordinal]
        if verdict < _FIRST or self._matches is None:
            return None
        match = self._matches[verdict - _FIRST]
        index, there = match.donor.index, match.ordinals[ordinal]
        size, extents = index.size_of(there), index.extents(there)
        owner = _FromFiles(match.donor)
        return MemberReader(owner, size, index.place(there), extents, self._limiter)

    def drop(self, ordinal: int) -> None:
        """Share a file no more: its bytes cannot be read any more."""
        self._verdicts[ordinal] = _NOWHERE

    async def judge(self, ordinal: int) -> None:
        """Find out whether a file is shared, if that is not known."""
        if self._verdicts[ordinal] != _UNKNOWN:
            await trio.lowlevel.checkpoint()
            return
        matches = self._matches
        if matches is None:
            matches = await self._flights.run("donors", self._find_matches)
        work = partial(self._judge, ordinal, matches)
        for number, verdict in await trio.to_thread.run_sync(work, limiter=self._limiter):
            if self._verdicts[number] == _UNKNOWN:  # nobody has dropped it meanwhile
                self._verdicts[number] = verdict

    async def _find_matches(self) -> tuple[_Match, ...]:
        work = partial(_match, self._index, await self._find())
        self._matches = await trio.to_thread.run_sync(work, limiter=self._limiter)
        return self._matches

    def _judge(self, first: int, matches: Sequence[_Match]) -> list[tuple[int, int]]:
        """Return verdicts of a member and of some behind it. Blocks."""
        found, left = [], _AHEAD_BYTES
        for ordinal in range(first, min(first + _AHEAD, len(self._index))):
            if ordinal != first:
                left -= self._index.size_of(ordinal)
                if left < 0:
                    break
            if self._verdicts[ordinal] == _UNKNOWN:
                found.append((ordinal, self._verdict(ordinal, matches)))
        return found

    def _verdict(self, ordinal: int, matches: Sequence[_Match]) -> int:
        wanted = self._digests.find(ordinal)
        for number, match in enumerate(matches):
            there = match.ordinals[ordinal]
            if wanted is not None and there and _has(match.donor, there, wanted):
                return _FIRST + number
        return _NOWHERE


class SharingReader:
    """A file as `orasfs.oci.storage.BlobReader`: from an earlier layer, if it is there.

    Args:
        own: reads it from its own layer.
        sharing: returns what the layer shares now, None if that is nothing any more.
        ordinal: of the file.
    """

    def __init__(
        self, own: MemberReader, sharing: Callable[[], SharedFiles | None], ordinal: int
    ) -> None:
        self._own = own
        self._sharing: Callable[[], SharedFiles | None] | None = sharing
        self._ordinal = ordinal
        self._donated: MemberReader | None = None

    def __repr__(self) -> str:
        return f"<SharingReader {self._donated or self._own!r}>"

    @property
    def size(self) -> int:
        """The number of bytes, holes included."""
        return self._own.size

    @property
    def is_verified(self) -> bool:
        """Whether the layer itself has been verified."""
        return self._own.is_verified

    def backing_fd(self) -> int | None:
        """Return the file that has the bytes once the layer is verified; see `MemberReader`."""
        return self._own.backing_fd()

    def read_now(self, offset: int, size: int) -> bytes | None:
        """Return the bytes if they may be served and the page cache has them, else None."""
        donated = self._open()
        found = None if donated is None else donated.read_now(offset, size)
        return self._own.read_now(offset, size) if found is None else found

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes [offset, offset + size), fewer only at the end; see `MemberReader`."""
        shared = None if self._sharing is None else self._sharing()
        if shared is not None and shared.may_have(self._ordinal):
            await shared.judge(self._ordinal)
            donated = self._open()
            if donated is not None:
                try:
                    return await donated.read(offset, size)
                except (Unsupported, StorageFailure):  # evicted, or the disk is damaged
                    shared.drop(self._ordinal)
        return await self._own.read(offset, size)

    def close(self) -> None:
        """Let go of both layers. Harmless twice."""
        self._sharing = None
        self._own.close()
        self._let_go()

    def _open(self) -> MemberReader | None:
        """Return the file in the earlier layer, if it is known to be shared."""
        shared = None if self._sharing is None else self._sharing()
        if shared is None or not shared.may_have(self._ordinal):
            self._let_go()
        elif self._donated is None:
            self._donated = shared.open(self._ordinal)
        return self._donated

    def _let_go(self) -> None:
        if self._donated is not None:
            self._donated.close()
            self._donated = None


class _FromFiles:
    """Owns a member of a donor, whose files are all there is."""

    is_verified = False

    def __init__(self, donor: Donor) -> None:
        self._donor = donor

    def files_now(self, stop: int) -> Files:  # noqa: ARG002 - all of it is there
        return self._donor

    def tar_reader(self) -> None:
        return None

    async def obtain(self, stop: int) -> NoReturn:  # noqa: ARG002 - the port's
        await trio.lowlevel.checkpoint()
        raise Unsupported("a file of an earlier layer is gone")


def _match(index: LayerIndex, donors: Sequence[Donor]) -> tuple[_Match, ...]:
    """Return the donors that have anything at the same paths. Blocks."""
    found = []
    for donor in donors:
        try:
            ordinals = same_paths(index, donor.index)
        except OrasfsError:  # it is damaged
            continue
        if any(ordinals):
            found.append(_Match(donor, ordinals))
    return tuple(found)


def _has(donor: Donor, ordinal: int, wanted: bytes) -> bool:
    """Tell whether a file of a donor has this digest. Blocks."""
    index = donor.index
    try:
        place, size = index.place(ordinal), index.size_of(ordinal)
        if place.blob is not None:
            return index.blob(place.blob).hex == wanted.hex()
        if donor.slab_fd < 0:
            return False
        content = disk.read_fully(donor.slab_fd, place.offset, size)
    except OrasfsError:
        return False
    return hashlib.sha256(content).digest() == wanted
