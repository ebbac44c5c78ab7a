"""What of a directory survives a push and a pull by other clients."""

import stat
from pathlib import Path


def restored(top: Path) -> dict[str, tuple[object, ...]]:
    """Return what a pull restores: raw files have neither mode nor time, links no time."""
    found: dict[str, tuple[object, ...]] = {}
    for path in top.rglob("*"):
        name, status = str(path.relative_to(top)), path.lstat()
        if path.is_symlink():
            found[name] = (str(path.readlink()),)
        elif path.is_dir():
            found[name] = ()
        elif "/" in name:
            mode, seconds = stat.S_IMODE(status.st_mode), int(status.st_mtime)
            found[name] = (path.read_bytes(), mode, seconds)
        else:
            found[name] = (path.read_bytes(),)
    return found
