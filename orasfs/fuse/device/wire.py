"""The words of the kernel's FUSE protocol: operation codes, flags and the layout of messages.

Owns the numbers of include/uapi/linux/fuse.h, protocol 7.31 (Linux 5.4) to 7.45, in the machine's
own byte order. Pure; names are those of the header.
"""

from enum import IntEnum, IntFlag
from struct import Struct

MAJOR = 7
MINOR = 45  # the newest that this speaks
MIN_MINOR = 31  # the oldest: Linux 5.4


class Opcode(IntEnum):
    """What the kernel asks."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    TMPFILE = 51
    STATX = 52


class Init(IntFlag):
    """What both sides can do, 64 bits: `flags` and, above them, `flags2`."""

    ASYNC_READ = 1 << 0
    ATOMIC_O_TRUNC = 1 << 3
    BIG_WRITES = 1 << 5
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    INIT_EXT = 1 << 30
    PASSTHROUGH = 1 << 37


class Valid(IntFlag):
    """Which fields of SETATTR are to be changed."""

    MODE = 1 << 0
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6


class Opened(IntFlag):
    """How the kernel is to use a file that was opened."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NOFLUSH = 1 << 5
    PASSTHROUGH = 1 << 7


class Notification(IntEnum):
    """What the kernel can be told unasked."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    STORE = 4


FSYNC_DATA_ONLY = 1 << 0

# Every message begins so.
IN_HEADER = Struct("=IIQQIIIHH")  # len, opcode, unique, nodeid, uid, gid, pid, total_extlen, 0
OUT_HEADER = Struct("=IiQ")  # len, negative errno or notification code, unique

# What follows in a request, before names and bytes.
INIT_IN = Struct("=IIII")  # major, minor, max_readahead, flags
INIT_IN_FLAGS2 = Struct("=I")
FORGET_IN = Struct("=Q")  # nlookup
BATCH_FORGET_IN = Struct("=II")  # count, 0
FORGET_ONE = Struct("=QQ")  # nodeid, nlookup
MKNOD_IN = Struct("=IIII")  # mode, rdev, umask, 0
MKDIR_IN = Struct("=II")  # mode, umask
RENAME_IN = Struct("=Q")  # newdir
RENAME2_IN = Struct("=QII")  # newdir, flags, 0
LINK_IN = Struct("=Q")  # oldnodeid
SETATTR_IN = Struct("=IIQQQQQQIIIIIIII")
OPEN_IN = Struct("=II")  # flags, open_flags
CREATE_IN = Struct("=IIII")  # flags, mode, umask, open_flags
RELEASE_IN = Struct("=QIIQ")  # fh, flags, release_flags, lock_owner
READ_IN = Struct("=QQIIQII")  # fh, offset, size, read_flags, lock_owner, flags, 0
WRITE_IN = Struct("=QQIIQII")  # fh, offset, size, write_flags, lock_owner, flags, 0
FSYNC_IN = Struct("=QII")  # fh, fsync_flags, 0
SETXATTR_IN = Struct("=II")  # size, flags
GETXATTR_IN = Struct("=II")  # size, 0
INTERRUPT_IN = Struct("=Q")  # unique

# What answers hold.
ATTR = Struct("=QQQQQQIIIIIIIIII")
ENTRY_OUT = Struct("=QQQQII")  # nodeid, generation, entry_valid, attr_valid, their nanoseconds
ATTR_OUT = Struct("=QII")  # attr_valid, its nanoseconds, 0
OPEN_OUT = Struct("=QIi")  # fh, open_flags, backing_id
WRITE_OUT = Struct("=II")  # size, 0
GETXATTR_OUT = Struct("=II")  # size, 0
STATFS_OUT = Struct("=QQQQQIIII24x")
DIRENT = Struct("=QQII")  # ino, off, namelen, type; then the name, to a multiple of 8 bytes
DIRENT_PLUS = Struct(ENTRY_OUT.format + ATTR.format[1:] + DIRENT.format[1:])  # in one step
INIT_OUT = Struct("=IIIIHHIIHHIIH22x")

# What notifications hold.
INVAL_INODE_OUT = Struct("=Qqq")  # ino, off, len
STORE_OUT = Struct("=QQII")  # nodeid, offset, size, 0; then the bytes
INVAL_ENTRY_OUT = Struct("=QII")  # parent, namelen, flags; then the name and a zero byte

# ioctl(2) on the device: _IOW(229, 1, struct fuse_backing_map) and _IOW(229, 2, uint32_t).
BACKING_MAP = Struct("=iIQ")  # fd, flags, 0
BACKING_ID = Struct("=I")
IOC_BACKING_OPEN = 1 << 30 | BACKING_MAP.size << 16 | 229 << 8 | 1
IOC_BACKING_CLOSE = 1 << 30 | BACKING_ID.size << 16 | 229 << 8 | 2
