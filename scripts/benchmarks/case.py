"""What a benchmark is: cases, their contenders, and how contenders are compared.

Owns the values that cases hand to the runner. Knows no mount, no registry and no output format.
INVARIANT: what a contender has read is verified outside the measured time, in every run, so that a
wrong answer cannot be fast.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class VerificationFailed(Exception):
    """A contender read something else than what was published."""


class Better(Enum):
    """Which quotient of two contenders' times a comparison states, and which side is good."""

    LOWER_TIME = "time"  # subject's seconds / rival's seconds, wanted at most at the target
    HIGHER_SPEED = "speed"  # rival's seconds / subject's seconds, wanted at least at the target


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to do a case's work.

    Attributes:
        name: unique in its case.
        reset: brings everything into the state in which the run begins; not measured.
        run: does the work and returns its seconds; only the contender knows what to leave out
            (the start of a reading process, for example).
        verify: raises `VerificationFailed` if the work's outcome is wrong; not measured.
    """

    name: str
    reset: Callable[[], None]
    run: Callable[[], float]
    verify: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A ratio to report; without a `target` it is information only."""

    subject: str
    rival: str
    better: Better
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Gauge:
    """A single number to report beside the times, with the highest value that is good."""

    name: str
    value: float
    unit: str
    limit: float | None = None


class Case(Protocol):
    """One benchmark. The runner calls the methods in the order in which they stand here."""

    @property
    def name(self) -> str:
        """The word that selects the case on the command line."""
        ...

    @property
    def title(self) -> str:
        """One line saying what is measured."""
        ...

    @property
    def work(self) -> tuple[float, str]:
        """How much one run does, and its unit (`MiB`, `files`); known after `prepare`."""
        ...

    def prepare(self) -> None:
        """Make and publish what the contenders read."""
        ...

    def contenders(self) -> Sequence[Contender]:
        """Return the contenders, in the order of one round."""
        ...

    def comparisons(self) -> Sequence[Comparison]:
        """Return the ratios to report."""
        ...

    def gauges(self) -> Sequence[Gauge]:
        """Return the numbers to report that are no times; asked after the last run."""
        ...

    def finish(self) -> None:
        """Unmount what is mounted and drop what is large. Called whatever happened."""
        ...
