"""What a commit needs besides the draft and the target: ports, and what each does by default.

Knows nothing of who implements them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobContent
from orasfs.staging.contents import LocalBlob
from orasfs.staging.upload import MountsFrom

FetchKept = Callable[[Descriptor], Awaitable[BlobContent | None]]
# Returns the index of a packed layer that is to be published of it, None for none. Blocks, in a
# worker thread of trio.
MakeIndex = Callable[[LocalBlob], bytes | None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a commit needs besides the draft and the target.

    Attributes:
        mounts_from: names repositories of the target's registry that may have a blob.
        fetch_kept: returns the bytes of a layer of the base, from wherever the base is.
        now: seconds since the epoch.
        near_base: the base's manifest, if it is of the repository that is the target. As long as
            it is there, so is what it names, and none of that is asked for.
        make_index: makes the indexes that packed layers vouch for; None if nobody publishes any.
    """

    mounts_from: MountsFrom
    fetch_kept: FetchKept
    now: Callable[[], int]
    near_base: Digest | None = None
    make_index: MakeIndex | None = None
