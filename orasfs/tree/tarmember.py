"""What a member of a tar is: its own header, and what extended headers before it have said.

Owns which of them counts: a local header goes before a global one, and either before GNU's long
names and the member's own header (POSIX.1-2017 pax, "pax Header Block"). Knows nothing of where in
the tar they are. Pure.
"""

from dataclasses import dataclass

from orasfs.tree.pax import (
    Records,
    Segment,
    clamp_time_ns,
    parse_number,
    parse_records,
    parse_time_ns,
)
from orasfs.tree.tarheader import Header

_SECOND_NS = 1_000_000_000


@dataclass(slots=True)
class Member:
    """A member with all that its headers say; `stored` bytes of data follow."""

    kind: bytes
    name: bytes
    target: bytes
    mode: int
    mtime_ns: int
    stored: int
    values: dict[bytes, bytes]
    pairs: list[Segment]


class Extensions:
    """What was said of the next member, and of all that follow.

    The methods take the data of an extended header, and where they begin, for the message.

    Attributes:
        is_empty: nothing was: what the next member is says its header alone.
    """

    def __init__(self) -> None:
        self.is_empty = True
        self._global = Records()
        self._local = Records()
        self._long_name: bytes | None = None
        self._long_target: bytes | None = None

    def __repr__(self) -> str:
        return f"<Extensions is_empty={self.is_empty} is_pending={self.is_pending}>"

    @property
    def is_pending(self) -> bool:
        """Whether a member must follow, of which something was said."""
        return bool(
            self._local.values
            or self._local.pairs
            or self._long_name is not None
            or self._long_target is not None
        )

    def take_local(self, data: bytes, offset: int) -> None:
        """Take records that count for the next member.

        Raises:
            InvalidContent: they break the grammar.
        """
        self.is_empty = False
        self._local = parse_records(data, offset)

    def take_global(self, data: bytes, offset: int) -> None:
        """Take records that count for all members that follow; raises as `take_local`."""
        self.is_empty = False
        self._global.values |= parse_records(data, offset).values

    def take_long_name(self, data: bytes, _offset: int) -> None:
        """Take the name of the next member, in GNU's way."""
        self.is_empty = False
        self._long_name = data.partition(b"\0")[0]

    def take_long_target(self, data: bytes, _offset: int) -> None:
        """Take where the next member links to, in GNU's way."""
        self.is_empty = False
        self._long_target = data.partition(b"\0")[0]

    def merged(self, header: Header, offset: int) -> Member:
        """Return the member, with what extended headers said of it; they are used up.

        Args:
            header: its own.
            offset: where in the tar that is, for the message.

        Raises:
            InvalidContent: a number or a time is none.
        """
        values = {
            key: value
            for key, value in (self._global.values | self._local.values).items()
            if value
        }
        name = values.get(b"GNU.sparse.name") or values.get(b"path") or self._long_name
        target = values.get(b"linkpath") or self._long_target
        member = Member(
            kind=header.kind,
            name=header.name if name is None else name,
            target=header.target if target is None else target,
            mode=header.mode,
            mtime_ns=time_ns(header),
            stored=header.size,
            values=values,
            pairs=self._local.pairs,
        )
        if b"mtime" in values:
            member.mtime_ns = parse_time_ns(values[b"mtime"], offset)
        if b"size" in values:
            member.stored = parse_number(values[b"size"], offset)
        self._local, self._long_name, self._long_target = Records(), None, None
        self.is_empty = not self._global.values
        return member


def time_ns(header: Header) -> int:
    """Return the time of a member in nanoseconds, the nearest that an index can hold."""
    return clamp_time_ns(header.mtime * _SECOND_NS)
