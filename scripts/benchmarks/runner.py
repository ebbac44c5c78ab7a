"""Runs cases: contenders take turns, and every turn is verified.

Owns the order of runs and the statistics. Contenders are interleaved (A B A B, not A A B B), so
that noise that lasts for a while falls on all of them; the median of the pairwise ratios then
compares neighbours in time.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scripts.benchmarks import memory
from scripts.benchmarks.case import Better, Case, Comparison, Gauge, VerificationFailed
from scripts.benchmarks.processes import ProgramFailed


@dataclass(frozen=True, slots=True)
class Timing:
    """One contender's seconds, in the order of the runs (never empty)."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle of the runs, in seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A comparison with its outcome; `met` is None where there is no target."""

    comparison: Comparison
    of_medians: float
    median_of_pairs: float

    @property
    def met(self) -> bool | None:
        """Whether the ratio of the medians reaches the target."""
        if self.comparison.target is None:
            return None
        if self.comparison.better is Better.LOWER_TIME:
            return self.of_medians <= self.comparison.target
        return self.of_medians >= self.comparison.target


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What a case gave; `failure` says why it has no complete timings."""

    name: str
    title: str
    work: float
    unit: str
    timings: tuple[Timing, ...]
    ratios: tuple[Ratio, ...]
    gauges: tuple[Gauge, ...]
    failure: str | None = None

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that are not reached, in words."""
        ratios = tuple(
            f"{self.name}: {ratio.comparison.subject} / {ratio.comparison.rival}"
            for ratio in self.ratios
            if ratio.met is False
        )
        gauges = tuple(
            f"{self.name}: {gauge.name}"
            for gauge in self.gauges
            if gauge.limit is not None and gauge.value > gauge.limit
        )
        return ratios + gauges


def compare(timings: Sequence[Timing], comparison: Comparison) -> Ratio | None:
    """Work a comparison out; None if one side did not take part (a program not installed)."""
    by_name = {timing.name: timing for timing in timings}
    subject = by_name.get(comparison.subject)
    rival = by_name.get(comparison.rival)
    if subject is None or rival is None:
        return None
    pairs = [a / b for a, b in zip(subject.seconds, rival.seconds, strict=True)]
    of_medians = subject.median / rival.median
    if comparison.better is Better.HIGHER_SPEED:
        pairs = [1 / pair for pair in pairs]
        of_medians = 1 / of_medians
    return Ratio(comparison, of_medians, statistics.median(pairs))


def run_case(
    case: Case, runs: int, progress: Callable[[str], None], *, memory_bytes: int = 0
) -> CaseResult:
    """Run one case; what goes wrong ends it and is its result, so that other cases still run.

    Args:
        case: the case.
        runs: how often each contender takes its turn.
        progress: hears what is being done.
        memory_bytes: how much memory is to be there when a turn begins, see `memory`.
    """
    failure: str | None = None
    seconds: dict[str, list[float]] = {}
    try:
        progress(f"{case.name}: preparing")
        case.prepare()
        for turn in range(1, runs + 1):
            progress(f"{case.name}: run {turn} of {runs}")
            _run_round(case, seconds, progress, memory_bytes)
    except (VerificationFailed, ProgramFailed) as error:
        failure = str(error)
    finally:
        gauges = tuple(case.gauges())
        case.finish()
    complete = () if failure else tuple(Timing(n, tuple(s)) for n, s in seconds.items())
    compared = (compare(complete, comparison) for comparison in case.comparisons())
    ratios = tuple(ratio for ratio in compared if ratio is not None)
    work, unit = case.work
    return CaseResult(case.name, case.title, work, unit, complete, ratios, gauges, failure)


def _run_round(
    case: Case,
    seconds: dict[str, list[float]],
    progress: Callable[[str], None],
    memory_bytes: int,
) -> None:
    for contender in case.contenders():
        contender.reset()
        memory.bring(memory_bytes)
        elapsed = contender.run()
        progress(f"  {contender.name}: {elapsed:.3f} s")
        try:
            contender.verify()
        except VerificationFailed as error:
            raise VerificationFailed(f"{contender.name}: {error}") from error
        seconds.setdefault(contender.name, []).append(elapsed)
