"""`orasfs` to which layers are large early: tests of published indexes need not fill disks.

python -m tests.support.smallindexes mount -f …
"""

import functools
import sys

from orasfs.cli.main import main
from orasfs.daemon import compose, writing
from orasfs.staging.indexpublish import IndexPublisher
from orasfs.store.options import CacheOptions
from orasfs.store.packed import publishedindexes

LARGE_BYTES = 1024 * 1024
PROGRAM = ("tests.support.smallindexes", "mount", "-f")

if __name__ == "__main__":
    options = functools.partial(CacheOptions, lazy_bytes=LARGE_BYTES)
    setattr(compose, "CacheOptions", options)  # noqa: B010 - mypy knows it as a class
    publisher = functools.partial(IndexPublisher, least_bytes=LARGE_BYTES)
    setattr(writing, "IndexPublisher", publisher)  # noqa: B010 - the same
    publishedindexes.PATIENCE_SECONDS = 60.0  # whatever the machine does meanwhile
    sys.argv[0] = "orasfs"
    main()
