"""The one mount that a case has at a time, and the highest memory of all that it had."""

from pathlib import Path

from scripts.benchmarks.case import Gauge
from scripts.benchmarks.lab import Lab
from scripts.benchmarks.mount import Mount
from scripts.benchmarks.publish import Published

PEAK_LIMIT_MEBIBYTES = 150.0


class Session:
    """Mounts, remounts and unmounts one artifact's registry with one cache directory."""

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab = lab
        self._cache_name = f"cache-{name}"
        self._mount: Mount | None = None
        self._peak_mebibytes = 0.0

    @property
    def cache(self) -> Path:
        """The cache directory."""
        return self._lab.directory / self._cache_name

    def clear(self) -> None:
        """Unmount and empty the cache."""
        self.unmount()
        self._lab.fresh_directory(self._cache_name)

    def remount(self, place: Published, *options: str) -> None:
        """Mount anew: then neither the kernel nor the daemon remembers anything."""
        self.unmount()
        self._mount = self._lab.mount(place, self.cache, *options)

    def path(self, place: Published) -> Path:
        """Return the artifact's directory in the mount."""
        if self._mount is None:
            raise AssertionError("nothing is mounted: a contender's reset is missing")
        return self._mount.path / place.repository / place.tag

    def evict(self, least_bytes: int) -> None:
        """Take blobs and slabs of more than so many bytes out of the cache; indexes stay."""
        for path in self.cache.rglob("*"):
            is_content = path.name == "slab" or path.is_relative_to(self.cache / "blobs")
            if path.is_file() and is_content and path.stat().st_size > least_bytes:
                path.unlink()

    def unmount(self) -> None:
        """Unmount if mounted, and note the daemon's peak memory."""
        if self._mount is None:
            return
        mount, self._mount = self._mount, None
        mount.stop()
        self._peak_mebibytes = max(self._peak_mebibytes, mount.peak_mebibytes)

    def peak(self) -> Gauge:
        """Unmount, and return the highest resident memory of a daemon of this session."""
        self.unmount()
        return Gauge("daemon peak memory", self._peak_mebibytes, "MiB", PEAK_LIMIT_MEBIBYTES)
