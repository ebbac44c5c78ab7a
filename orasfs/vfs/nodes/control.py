"""`MOUNT/.orasfs`: what the daemon says of itself, as files that are made at each open."""

from collections.abc import Callable, Mapping
from functools import partial

from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key
from orasfs.vfs.nodes.base import Node
from orasfs.vfs.nodes.files import LiveNode
from orasfs.vfs.nodes.tables import TableNode


def control_directory(key: Key, control: Mapping[str, Callable[[], bytes]]) -> Node:
    """Return the directory with one file for each callable, which makes its content."""
    errors = ErrorLog()
    makers = {
        name: partial(LiveNode, errors=errors, content=content)
        for name, content in control.items()
    }
    return TableNode(key, errors, makers)
