"""Nodes that may be members of a series: of all that is in one layer of one artifact.

Owns what they have in common. The series itself is `orasfs.vfs.nodes.view.LayerSeries`.
"""

from typing import Protocol, runtime_checkable

from orasfs.vfs.errorlog import ErrorLog
from orasfs.vfs.keys import Key, Serial
from orasfs.vfs.nodes.base import Node, Spot


@runtime_checkable
class Placing(Protocol):
    """A series that knows where its members are."""

    def spot(self, ordinal: int) -> Spot | None:
        """Return where a member is, if an edit can make it a part of a draft."""
        ...


class SerialNode(Node):
    """A node that may be a member of a series."""

    __slots__ = ("_serial",)

    def __init__(self, key: Key, errors: ErrorLog, serial: Serial | None) -> None:
        super().__init__(key, errors)
        self._serial = serial

    @property
    def serial(self) -> Serial | None:
        """Which member of which series it is, None if it is of none."""
        return self._serial

    @property
    def spot(self) -> Spot | None:
        """Where it is; a series finds that out when it is wanted."""
        if self._spot is None and self._serial is not None:
            series: object = self._serial.series
            if isinstance(series, Placing):
                self._spot = series.spot(self._serial.ordinal)
        return self._spot
