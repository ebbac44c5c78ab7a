"""Numbers of references: of one thing, and of each of many that are numbered; pure."""

from collections.abc import Iterator

_FULL = 255


class CountMisused(Exception):
    """More was given back than was taken: a bug in the transport or in the table."""


def fewer(count: int, times: int) -> int:
    """Return a count of which `times` are given back; too many leave none.

    Use `check_given_back` once it is noted.
    """
    return max(count - max(times, 0), 0)


def check_given_back(count: int, times: int) -> None:
    """Check that of a count, as it was before, `times` could be given back.

    Raises:
        CountMisused: there were not so many.
    """
    if not 0 <= times <= count:
        raise CountMisused(f"{times - count} references too many given back")


class Tally:
    """A count for each of many things that are numbered from 0; most take one byte.

    Args:
        size: how many have a byte; those behind them may be counted too, at a price.

    INVARIANT: `_more` has what the byte of a thing cannot hold, and no zeros.
    """

    __slots__ = ("_bytes", "_distinct", "_more")

    def __init__(self, size: int = 0) -> None:
        self._bytes = bytearray(size)
        self._more: dict[int, int] = {}
        self._distinct = 0

    def __len__(self) -> int:
        """Return how many things are counted at all."""
        return self._distinct

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the things that are counted."""
        if not self._distinct:
            return
        for number, value in enumerate(self._bytes):
            if value:
                yield number
        yield from [number for number in self._more if number >= len(self._bytes)]

    def of(self, number: int) -> int:
        """Return the count of a thing."""
        few = self._bytes[number] if number < len(self._bytes) else 0
        return few + self._more.get(number, 0)

    def take(self, number: int) -> None:
        """Count one more of a thing."""
        few = self._bytes[number] if number < len(self._bytes) else _FULL
        if few < _FULL:
            self._distinct += not few
            self._bytes[number] = few + 1
            return
        self._distinct += number >= len(self._bytes) and number not in self._more
        self._more[number] = self._more.get(number, 0) + 1

    def give_back(self, number: int, times: int) -> None:
        """Count `times` fewer of a thing.

        Raises:
            CountMisused: there are not so many; its count is zero then.
        """
        before = self.of(number)
        left = fewer(before, times)
        few = min(left, _FULL) if number < len(self._bytes) else 0
        if number < len(self._bytes):
            self._bytes[number] = few
        self._more.pop(number, None)
        if left > few:
            self._more[number] = left - few
        self._distinct -= before > 0 and not left
        check_given_back(before, times)

    def clear(self, number: int) -> int:
        """Count none of a thing any more; return how many there were."""
        before = self.of(number)
        self.give_back(number, before)
        return before
