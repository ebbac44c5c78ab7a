"""What all nodes of one mount share, as one frozen value: options, clock, nursery, cache.

Owns nothing itself; it is made once by the filesystem and passed down.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from orasfs.vfs.documents import DocumentCache
from orasfs.vfs.drafts import Drafts
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.verification import Verification


@dataclass(frozen=True, slots=True)
class Mount:
    """Shared by the nodes of one mount.

    Attributes:
        options: what the mount was told.
        clock: seconds that only go forward.
        nursery: where work goes on that nobody waits for any more.
        documents: parsed manifests and their views.
        verification: which blobs are known to be what their digests say.
        drafts: what is staged; None where nothing may be changed.
    """

    options: FilesystemOptions
    clock: Callable[[], float]
    nursery: trio.Nursery
    documents: DocumentCache
    verification: Verification
    drafts: Drafts | None = None
