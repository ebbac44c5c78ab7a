"""Draws results as a picture: how far each compared pair and each gauge is from its target.

Needs matplotlib (the extra `bench`), which is imported only when a picture is wanted.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmarks.case import Better
from scripts.benchmarks.runner import CaseResult

_BAR_INCHES = 0.34
_DOTS_PER_INCH = 110


@dataclass(frozen=True, slots=True)
class Bar:
    """A target, and how much of it is used up: 1 is just met, more is missed."""

    label: str
    used: float


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def bars(results: Sequence[CaseResult]) -> list[Bar]:
    """Return a bar for each target, in the order of the report."""
    found = []
    for result in results:
        for ratio in result.ratios:
            target = ratio.comparison.target
            if target is None:
                continue
            is_time = ratio.comparison.better is Better.LOWER_TIME
            used = ratio.of_medians / target if is_time else target / ratio.of_medians
            words = f"{ratio.comparison.subject} / {ratio.comparison.rival}"
            found.append(Bar(f"{result.name}: {words}", used))
        found += [
            Bar(f"{result.name}: {gauge.name}", gauge.value / gauge.limit)
            for gauge in result.gauges
            if gauge.limit
        ]
    return found


def draw(results: Sequence[CaseResult], path: Path) -> None:
    """Write a PNG with a bar for each target."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - see above
    from matplotlib.figure import Figure  # noqa: PLC0415

    found = bars(results)[::-1]
    figure = Figure(figsize=(11, 1.2 + _BAR_INCHES * len(found)), layout="constrained")
    axes = figure.add_subplot()
    colours = ["tab:green" if bar.used <= 1 else "tab:red" for bar in found]
    axes.barh([bar.label for bar in found], [bar.used for bar in found], color=colours)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("of the target (1: just met; to the left is better)")
    axes.set_title("orasfs against its targets")
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png", dpi=_DOTS_PER_INCH)
