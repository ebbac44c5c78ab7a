"""The counts behind `orasfs.store.options.Statistics`; touched on the trio thread only."""

from dataclasses import asdict, dataclass

from orasfs.store.fetching.arrival import Arrival
from orasfs.store.fetching.assembly import Assembly
from orasfs.store.options import Statistics


@dataclass(slots=True)
class Counters:
    """Counts since the cache was made."""

    hits: int = 0
    misses: int = 0
    downloads_completed: int = 0
    downloads_failed: int = 0
    bytes_received: int = 0
    mismatches: int = 0
    layers_unpacked: int = 0

    def count_download(self, arrival: Arrival | Assembly) -> None:
        """Count a download that has ended."""
        self.bytes_received += max(0, arrival.received - arrival.resumed)
        if arrival.error is None:
            self.downloads_completed += 1
        elif not arrival.is_stopping:
            self.downloads_failed += 1

    def snapshot(self) -> Statistics:
        """Return the counts as they are."""
        return Statistics(**asdict(self))
