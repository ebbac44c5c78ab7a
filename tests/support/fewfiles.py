"""`orasfs` in a shell that lets a process have few files open: `python -m … mount -f …`."""

import resource
import sys

from orasfs.cli.main import main

SOFT_LIMIT = 200
PROGRAM = ("tests.support.fewfiles", "mount", "-f")

if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT_LIMIT, hard))
    sys.argv[0] = "orasfs"
    main()
