"""Looking after a cache by hand: what is in it, and what may go.

Owns the judgement of files that are there already; whether they are right is
`orasfs.store.inspection`'s. Needs no mount and no network, and is safe beside running mounts: what
they have open stays. Blocking; knows no trio.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orasfs.store.content.entries import Entry
from orasfs.store.content.ledger import Ledger
from orasfs.store.content.room import Room
from orasfs.store.references import References


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the cache, and what it is known to be of.

    Attributes:
        references: tags, as REGISTRY/REPOSITORY:TAG, and repositories that it was read from.
    """

    entry: Entry
    references: Sequence[str]


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on disk: in all, by kind, by repository; a blob of several counts in each."""

    total: int
    kinds: Mapping[str, int]
    repositories: Mapping[str, int]
    limit: int


def listing(room: Room, references: References) -> Iterator[Listed]:
    """Yield all files, the least recently used first, indexes last."""
    origins = _origins(room.ledger, references)
    for entry in room.ledger.entries():
        yield Listed(entry, origins.get(entry.digest, ()))


def usage(room: Room, references: References) -> Usage:
    """Add it all up."""
    kinds: dict[str, int] = {}
    repositories: dict[str, int] = {}
    origins = _origins(room.ledger, references)
    for entry in room.ledger.entries():
        kinds[entry.kind.value] = kinds.get(entry.kind.value, 0) + entry.size
        for name in {_without_tag(each) for each in origins.get(entry.digest, ())}:
            repositories[name] = repositories.get(name, 0) + entry.size
    return Usage(sum(kinds.values()), kinds, repositories, room.limit)


def prune(room: Room, pinned: Iterable[str], is_old: Callable[[Entry], bool]) -> int:
    """Remove what is old and not in use, indexes too; return how many bytes that were."""
    kept = frozenset(pinned)
    before = room.ledger.total()
    room.remove(
        [entry for entry in room.ledger.entries() if entry.digest not in kept and is_old(entry)]
    )
    return before - room.ledger.total()


def _origins(ledger: Ledger, references: References) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for digest, name in references.named():
        found.setdefault(digest, []).append(name)
    for digest, places in ledger.origins().items():
        names = found.setdefault(digest, [])
        known = {_without_tag(name) for name in names}
        full = [f"{registry}/{repository}" for registry, repository in places]
        names += [name for name in full if name not in known]
    return found


def _without_tag(name: str) -> str:
    head, slash, tail = name.rpartition("/")
    return f"{head}{slash}{tail.partition(':')[0]}"
