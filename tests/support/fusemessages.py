"""Requests as the kernel writes them, for tests that have no kernel."""

from orasfs.fuse.device import wire


def message(
    opcode: int, body: bytes = b"", *, ino: int = 5, unique: int = 8, pid: int = 77
) -> memoryview:
    """Return a whole request."""
    length = wire.IN_HEADER.size + len(body)
    return memoryview(wire.IN_HEADER.pack(length, opcode, unique, ino, 0, 0, pid, 0, 0) + body)


def init(
    flags: int = 0xFFFFFFFF, flags2: int = 0xFFFFFFFF, *, major: int = 7, minor: int = 45
) -> memoryview:
    """Return the first request of a kernel that can do everything."""
    body = wire.INIT_IN.pack(major, minor, 131072, flags) + wire.INIT_IN_FLAGS2.pack(flags2)
    return message(wire.Opcode.INIT, body + bytes(44))
