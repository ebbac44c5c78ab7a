"""`orasfs` that soon gives a registry up, for tests in which one stalls: `python -m …impatient`.

Deadlines, and for how long a registry is left alone, are no options of a mount: what is short
enough for a test is no good to anybody.
"""

import inspect
import sys

from orasfs.cli.main import main
from orasfs.registry.circuit import CircuitPolicy
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings

PROGRAM = ("tests.support.impatient", "mount", "-f")
_CHANGES = {
    "read_seconds": 2.0,
    "commit_seconds": 2.0,
    "total_seconds": 30.0,
    "retry": lambda: RetryPolicy(attempts=2, base_seconds=0.05),
    "circuit": lambda: CircuitPolicy(base_seconds=0.1, cap_seconds=0.5),
}


def shorten(changes: dict[str, object]) -> None:
    """Let the settings of every registry have other defaults."""
    original = RegistrySettings.__init__

    def make(self: RegistrySettings, *given: object, **named: object) -> None:
        bound = inspect.signature(original).bind(self, *given, **named)
        for name, value in changes.items():
            bound.arguments.setdefault(name, value() if callable(value) else value)
        original(*bound.args, **bound.kwargs)

    RegistrySettings.__init__ = make  # type: ignore[method-assign]  # that is the point


if __name__ == "__main__":
    shorten(_CHANGES)
    main(sys.argv[1:])
