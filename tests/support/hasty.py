"""`orasfs` whose deadlines are short, and to which blobs are large early: for tests of networks
that fail, which need neither wait nor fill disks.

python -m tests.support.hasty mount -f …
"""

import functools
import sys

from orasfs.cli.main import main
from orasfs.daemon import compose, connect
from orasfs.registry.circuit import CircuitPolicy
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.store.options import CacheOptions

POLICY = RetryPolicy(attempts=5, base_seconds=0.01, cap_seconds=0.05, deadline_seconds=8.0)
READ_SECONDS = 0.5
LAZY_BYTES = 1024 * 1024
NO_CIRCUIT = CircuitPolicy(threshold=1_000_000)
PROGRAM = ("tests.support.hasty", "mount", "-f")

if __name__ == "__main__":
    settings = functools.partial(
        RegistrySettings, retry=POLICY, read_seconds=READ_SECONDS, circuit=NO_CIRCUIT
    )
    setattr(connect, "RegistrySettings", settings)  # noqa: B010 - mypy knows it as a class
    options = functools.partial(CacheOptions, lazy_bytes=LAZY_BYTES, failure_seconds=0.05)
    setattr(compose, "CacheOptions", options)  # noqa: B010 - the same
    sys.argv[0] = "orasfs"
    main()
