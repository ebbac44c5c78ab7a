"""Numbers of references: of one thing, and of each of many that are numbered; pure."""

from collections.abc import Iterator

_FULL = 255


class CountMisused(Exception):
    """More was given back than was taken: a bug in the transport or in the table."""


class Count:
    """A number of references that cannot go below zero."""

    __slots__ = ("_value",)

    def __init__(self, value: int = 0) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value > 0

    def __int__(self) -> int:
        return self._value

    def take(self) -> None:
        """Count one more."""
        self._value += 1

    def give_back(self, number: int) -> None:
        """Count `number` fewer.

        Raises:
            CountMisused: there are not so many; the count is zero then.
        """
        if not 0 <= number <= self._value:
            missing, self._value = number - self._value, 0
            raise CountMisused(f"{missing} references too many given back")
        self._value -= number


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
        left = max(before - max(times, 0), 0)
        few = min(left, _FULL) if number < len(self._bytes) else 0
        if number < len(self._bytes):
            self._bytes[number] = few
        self._more.pop(number, None)
        if left > few:
            self._more[number] = left - few
        self._distinct -= before > 0 and not left
        if not 0 <= times <= before:
            raise CountMisused(f"{times - before} references too many given back")

    def clear(self, number: int) -> int:
        """Count none of a thing any more; return how many there were."""
        before = self.of(number)
        self.give_back(number, before)
        return before
