"""Whether a thread that waits has been told to end, and not merely disturbed.

Owns the reading of proc_pid_status(5). The kernel tells of any signal, also of one whose handler
only counts something, and a stat(2) that fails for such a one breaks programs: no disk does that.
"""

import re
import signal
from pathlib import Path

# SIGKILL stands for every signal that ends a process without asking it.
_ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM})
_MASK = sum(1 << (number - 1) for number in _ENDING)
_FIELD = re.compile(r"^(SigPnd|ShdPnd|SigBlk|SigIgn):\s*([0-9a-f]+)$", re.MULTILINE)


def is_told_to_end(status: str) -> bool:
    """Tell whether a signal that is to end the thread is pending, by the text of its status."""
    sets = {name: int(value, 16) for name, value in _FIELD.findall(status)}
    pending = sets.get("SigPnd", 0) | sets.get("ShdPnd", 0)
    return bool(pending & ~sets.get("SigBlk", 0) & ~sets.get("SigIgn", 0) & _MASK)


def wants_to_end(thread: int, proc: Path = Path("/proc")) -> bool:
    """Tell whether a thread is to end; one that cannot be looked at is believed to be."""
    try:
        return is_told_to_end((proc / str(thread) / "status").read_text())
    except OSError:
        return True
