"""What both transports answer alike: errnos for failures, and the size of a block.

Owns the one place that turns whatever a handler raises into a number.
"""

import errno
import logging
from collections.abc import Sequence

from orasfs.errors import OrasfsError
from orasfs.fuse.errno import errno_of

logger = logging.getLogger(__name__)

BLOCK_SIZE = 128 * 1024  # st_blksize: what cp and cat read at once


def errno_for(error: Exception, operation: str, args: Sequence[object]) -> int:
    """Return the errno that the caller gets for what a handler raised, and log it.

    To be called while `error` is being handled. What nobody foresaw is EIO, with a traceback.
    """
    if not isinstance(error, OrasfsError):
        logger.error("%s failed args=%r", operation, _plain(args), exc_info=error)
        return errno.EIO
    number = errno_of(error)
    if logger.isEnabledFor(logging.DEBUG):
        symbol = errno.errorcode.get(number)
        logger.debug("%s args=%r errno=%s error=%s", operation, _plain(args), symbol, error)
    return number


def _plain(args: Sequence[object]) -> list[object]:
    """Leave numbers and names of a handler's arguments, which are worth a line in the log."""
    return [arg for arg in args if isinstance(arg, int | bytes)]
