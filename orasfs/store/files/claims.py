"""The seam between who writes into the cache and who knows how much room there is."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Claim(Protocol):
    """Room for a file that is being written."""

    def use(self, size: int, most: int) -> None:
        """Have room for `size` bytes more, of `most` in all.

        Raises:
            StorageFull: there is none.
        """
        ...

    def settle(self) -> None:
        """Say that it is not written any more, under whatever name it is now."""
        ...


# Claims so many bytes for a file that gets another name in the end; raises `StorageFull`.
Claimant = Callable[[Path, int, Path], Claim | None]


def no_claim(_path: Path, _size: int, _target: Path) -> None:
    """Claim nothing: there is no limit."""
