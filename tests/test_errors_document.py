"""docs/ERRORS.md says what orasfs/fuse/errno.py does."""

import errno
import re
from pathlib import Path

from orasfs.fuse.errno import ERRNOS

DOCUMENT = Path(__file__).parent.parent / "docs" / "ERRORS.md"


def test_the_table_is_the_one_in_use() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (E\w+) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    in_use = {cls.__name__: number for cls, number in ERRNOS.items()}
    documented = {name: getattr(errno, symbol) for name, symbol in rows}
    assert documented == in_use
    assert len(rows) == len(documented)
