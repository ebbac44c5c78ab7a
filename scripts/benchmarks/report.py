"""Prints results: as a table for people, and as JSON for whatever compares runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.benchmarks.case import Better, Gauge
from scripts.benchmarks.runner import CaseResult, Ratio, Timing

FORMAT_VERSION = 1
_SYMBOLS = {Better.LOWER_TIME: "<=", Better.HIGHER_SPEED: ">="}


@dataclass(frozen=True, slots=True)
class Report:
    """All that one call of the benchmark found."""

    machine: Mapping[str, str]
    options: Mapping[str, int | str]
    results: Sequence[CaseResult]
    notes: Sequence[str] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """The cases that read something wrong."""
        return tuple(f"{r.name}: {r.failure}" for r in self.results if r.failure is not None)

    @property
    def missed(self) -> tuple[str, ...]:
        """The targets that are not reached."""
        return tuple(words for result in self.results for words in result.missed)

    def as_json(self) -> str:
        """Return the report as a JSON document with a version of its own shape."""
        document = {
            "version": FORMAT_VERSION,
            "machine": dict(self.machine),
            "options": dict(self.options),
            "notes": list(self.notes),
            "cases": [_case_document(result) for result in self.results],
            "failures": list(self.failures),
            "missed": list(self.missed),
        }
        return json.dumps(document, indent=2) + "\n"

    def as_text(self) -> str:
        """Return the report as plain text, which is also valid Markdown."""
        lines = ["machine:"]
        lines += [f"  {key}: {value}" for key, value in self.machine.items()]
        lines += ["options:", *(f"  {key}: {value}" for key, value in self.options.items())]
        for result in self.results:
            lines += ["", *_case_lines(result)]
        lines += [""] + [f"note: {note}" for note in self.notes]
        lines += [f"FAILED {words}" for words in self.failures]
        lines += [f"missed {words}" for words in self.missed]
        lines += ["all targets met"] if not self.failures and not self.missed else []
        return "\n".join(lines) + "\n"


def _case_document(result: CaseResult) -> dict[str, object]:
    return {
        "name": result.name,
        "title": result.title,
        "work": result.work,
        "unit": result.unit,
        "failure": result.failure,
        "contenders": [
            {
                "name": timing.name,
                "seconds": list(timing.seconds),
                "median": timing.median,
                "min": min(timing.seconds),
                "max": max(timing.seconds),
                "rate": result.work / timing.median,
            }
            for timing in result.timings
        ],
        "ratios": [
            {
                "subject": ratio.comparison.subject,
                "rival": ratio.comparison.rival,
                "of": ratio.comparison.better.value,
                "ratio_of_medians": ratio.of_medians,
                "median_of_ratios": ratio.median_of_pairs,
                "target": ratio.comparison.target,
                "met": ratio.met,
            }
            for ratio in result.ratios
        ],
        "gauges": [
            {
                "name": gauge.name,
                "value": gauge.value,
                "unit": gauge.unit,
                "limit": gauge.limit,
                "met": None if gauge.limit is None else gauge.value <= gauge.limit,
            }
            for gauge in result.gauges
        ],
    }


def _case_lines(result: CaseResult) -> list[str]:
    size = f" ({result.work:,.0f} {result.unit})" if result.work else ""
    lines = [f"## {result.name}: {result.title}{size}", ""]
    if result.failure is not None:
        lines.append(f"FAILED: {result.failure}")
    if result.timings:
        rows = [_timing_row(timing, result) for timing in result.timings]
        rate = f"{result.unit}/s"
        lines += _table(("contender", "median s", "min", "max", rate), rows)
    if result.ratios:
        heads = ("compared", "of", "medians", "pairs", "target", "")
        lines += ["", *_table(heads, [_ratio_row(ratio) for ratio in result.ratios])]
    if result.gauges:
        lines += [
            "",
            *_table(("gauge", "value", "limit", ""), [_gauge_row(g) for g in result.gauges]),
        ]
    return lines


def _timing_row(timing: Timing, result: CaseResult) -> tuple[str, ...]:
    seconds = (timing.median, min(timing.seconds), max(timing.seconds))
    rate = f"{result.work / timing.median:,.0f}"
    return (timing.name, *(f"{value:.3f}" for value in seconds), rate)


def _ratio_row(ratio: Ratio) -> tuple[str, ...]:
    compared = f"{ratio.comparison.subject} / {ratio.comparison.rival}"
    target = ""
    if ratio.comparison.target is not None:
        target = f"{_SYMBOLS[ratio.comparison.better]} {ratio.comparison.target:g}"
    values = (f"{ratio.of_medians:.2f}", f"{ratio.median_of_pairs:.2f}")
    return (compared, ratio.comparison.better.value, *values, target, _verdict(ratio.met))


def _gauge_row(gauge: Gauge) -> tuple[str, ...]:
    met = None if gauge.limit is None else gauge.value <= gauge.limit
    limit = "" if gauge.limit is None else f"<= {gauge.limit:g} {gauge.unit}"
    return (gauge.name, f"{gauge.value:,.1f} {gauge.unit}", limit, _verdict(met))


def _verdict(met: bool | None) -> str:  # noqa: FBT001 - the one value it is about
    return {True: "met", False: "MISSED", None: ""}[met]


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lay out a Markdown table whose columns line up, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * widths[0], *(f"{'-' * (max(width, 2) - 1)}:" for width in widths[1:])]
    return [line(heads), line(rule), *map(line, rows)]
