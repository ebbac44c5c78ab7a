"""What a mount can be told about behaviour, as one frozen value.

Owns defaults and units. Knows nothing of how options are written on a command line.
"""

from dataclasses import dataclass, field

from orasfs.tree.views import ViewOptions

SHORT_SECONDS = 5.0  # how long an answer holds that stands in for one that could not be had
CATALOG_SECONDS = 60.0  # the least time between two readings of a registry's catalog


@dataclass(frozen=True, slots=True)
class FilesystemOptions:
    """Options of one mount (docs/SEMANTICS.md).

    Attributes:
        tag_ttl_seconds: after this time a tag's digest is asked again.
        wait_seconds: after this time a waiting lookup, open or listing gives up (TimedOut).
        pin: resolve each tag once a mount.
        catalog_complete: take the registry's catalog for the whole truth about repositories.
        eager_layer_bytes: packed layers up to this size are fetched for a mere stat of their
            directory, because its mode and time are in the tar.
        view: what of an artifact is shown, and how.
        edits: a write into what is committed begins a draft on top of it.
        mountpoint: an absolute path, below which those of links are in the mount; "" if unknown.
    """

    tag_ttl_seconds: float = 30.0
    wait_seconds: float = 30.0
    pin: bool = False
    catalog_complete: bool = False
    eager_layer_bytes: int = 64 * 1024 * 1024
    view: ViewOptions = field(default_factory=ViewOptions)
    edits: bool = False
    mountpoint: str = ""

    @property
    def short_seconds(self) -> float:
        """How long the kernel may keep an answer that stands in for a failed request."""
        return min(self.tag_ttl_seconds, SHORT_SECONDS)

    @property
    def catalog_seconds(self) -> float:
        """How long a catalog holds."""
        return max(self.tag_ttl_seconds, CATALOG_SECONDS)
