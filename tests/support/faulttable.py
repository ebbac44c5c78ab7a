"""The faults of a network, and what a reader makes of each: the table of docs/ERRORS.md.

`FAULTS` is shared by the tests below FUSE (tests/registry/test_fault_table.py), which measure
requests and seconds, and those through a mount, which see the errno.
"""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.wire import NO_FAULT, Fault

DOCUMENT = Path(__file__).parents[2] / "docs" / "ERRORS.md"
KINDS = ("small blob", "large blob", "manifest", "tag")
HALF = 0.5  # of a body, where a fault begins in its middle


@dataclass(frozen=True)
class Row:
    """A fault: what happens to the number-th request for a content, counted from 0.

    Attributes:
        words: for the table.
        fault_of: (bytes of the answer's body, number) -> the fault.
    """

    words: str
    fault_of: Callable[[int, int], Fault]


def _always(fault: Fault) -> Callable[[int, int], Fault]:
    return lambda _size, _number: fault


def _at_first(fault: Fault, times: int) -> Callable[[int, int], Fault]:
    return lambda _size, number: fault if number < times else NO_FAULT


LIMITED = Fault(status=429, headers={"Retry-After": "3"})
FAULTS = {
    "refused": Row("connections are refused", _always(Fault(is_refused=True))),
    "reset": Row("reset half-way, each time", lambda size, _: Fault(reset_after=int(size * HALF))),
    "truncated": Row(
        "ended half-way, each time", lambda size, _: Fault(truncate_after=int(size * HALF))
    ),
    "short": Row("a Content-Length and a body that are too short", _always(Fault(short_by=1))),
    "stalled": Row("nothing comes, for ever", _always(Fault(stall_after=-1))),
    "limited once": Row("429 with Retry-After 3, once", _at_first(LIMITED, 1)),
    "limited": Row("429 with Retry-After 3, for ever", _always(LIMITED)),
    "failing twice": Row("500 for two tries", _at_first(Fault(status=500), 2)),
    "failing": Row("500 for ever", _always(Fault(status=500))),
    "wrong": Row("other bytes, as many", _always(Fault(is_wrong=True))),
    "whole": Row("a range is ignored", _always(Fault(ignores_range=True))),
    "certificate": Row("the certificate is wrong", _always(Fault(has_wrong_certificate=True))),
}


@dataclass(frozen=True)
class Outcome:
    """How a read ended: its errno, 0 for success; how many requests, and seconds, it took."""

    errno: int
    requests: int
    seconds: float

    def __str__(self) -> str:
        symbol = errno.errorcode[self.errno] if self.errno else "served"
        return f"{symbol}, {self.requests}, {self.seconds:g} s"


def documented() -> dict[tuple[str, str], str]:
    """Return the cells of the table by fault and kind."""
    text = DOCUMENT.read_text("utf-8")
    found = {}
    for row in FAULTS.values():
        match = re.search(rf"^\| {re.escape(row.words)} \|(.*)\|$", text, re.MULTILINE)
        cells = match[1].split("|") if match else [""] * len(KINDS)
        for kind, cell in zip(KINDS, cells, strict=True):
            found[row.words, kind] = cell.strip()
    return found
