"""Bytes of a blob by ranges, for what is verified by digests of its own. Blocking.

Owns one request for one range. Knows neither what the bytes are nor where they are kept.
"""

from collections.abc import Callable

from orasfs.errors import ContentMismatch, Unsupported
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.storage import BlobStreamer


def fetch(
    source: BlobStreamer,
    descriptor: Descriptor,
    start: int,
    stop: int,
    check_stop: Callable[[], None],
) -> bytearray:
    """Return bytes [start, stop) of a blob, unverified.

    Args:
        source: has the blob.
        descriptor: names it.
        start: the first byte.
        stop: the one behind the last.
        check_stop: called for each piece; may raise to stop.

    Raises:
        Unsupported: the source gives the whole blob only.
        ContentMismatch: it ends before `stop`.
        Unreachable: and whatever else the source raises.
    """
    content = bytearray(stop - start)
    stream = source.open_stream(descriptor, start, stop)
    try:
        if stream.offset != start:
            raise Unsupported(f"{descriptor.digest}: its registry gives no parts of it")
        with memoryview(content) as view:
            done = 0
            while done < len(view):
                check_stop()
                count = stream.readinto(view[done:])
                if not count:
                    raise ContentMismatch(f"{descriptor.digest}: ends at byte {start + done}")
                done += count
    finally:
        stream.close()
    return content
