"""How much the processors are fought for, as Linux tells it (pressure stall information).

Owns the reading of /proc/pressure/cpu. Where the kernel does not tell, nobody ever waits.
"""

from pathlib import Path

_PRESSURE = Path("/proc/pressure/cpu")
_MICROSECONDS = 1_000_000


def stalled_seconds(pressure: Path = _PRESSURE) -> float:
    """Return for how long, since the machine was started, somebody waited for a processor.

    Source: Documentation/accounting/psi.rst of Linux, `some … total=` in microseconds.
    """
    try:
        some = pressure.read_text().partition("\n")[0]
        return int(some.rpartition("total=")[2]) / _MICROSECONDS
    except (OSError, ValueError):
        return 0.0
