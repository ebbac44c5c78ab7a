"""Every exception that orasfs raises on purpose, in one tree.

Owns the names of what can go wrong. Knows no errno and no HTTP: `orasfs.fuse.errno` says which
errno a class becomes, and the boundary that made a foreign call translates foreign exceptions.

    OrasfsError
    ├── InvalidInput            what a person or a document said is malformed
    │   ├── InvalidName         a name, reference or mount source
    │   └── InvalidContent      a manifest, index or layer that breaks its specification
    │       └── ContentRefused  well formed, but would do harm: traversal, duplicates, too large
    ├── NotFound                it does not exist (the registry said so, or nothing names it)
    ├── ReadOnly                a write into what is committed
    ├── NotPermitted            an operation that is never allowed on this kind of name
    ├── NotADirectory           a lookup below something that is no directory
    ├── IsADirectory            a file operation on a directory
    ├── AlreadyExists           something has that name already
    ├── NotEmpty                a directory that is to go has something in it
    ├── CrossDevice             a move or link between places that share no storage
    ├── Busy                    somebody is at it; the message says who, and what to wait for
    ├── TagMoved                a tag is not what the work was based on any more
    ├── Aborted                 given up because whoever wanted it asked for that
    ├── NoAttribute             no such extended attribute
    ├── Unsupported             this registry or filesystem cannot do it
    ├── RegistryError           the registry answered, and the answer is a failure
    │   ├── Unauthorized        the registry wants credentials, and there are none
    │   │   ├── CredentialsRejected  those there are, it does not take
    │   │   └── CredentialsUnusable  there are some, and they cannot be read
    │   ├── Forbidden           known, and not allowed
    │   ├── RateLimited         still refused after the retries its Retry-After allowed
    │   ├── TagImmutable        the registry lets nobody move that tag
    │   ├── QuotaExceeded       the registry has no room left for this user
    │   ├── TooLarge            the registry takes nothing of this size
    │   └── RegistryFailure     5xx, or an answer that makes no sense
    ├── Unreachable             no answer, or not all of it
    │   ├── TimedOut
    │   ├── ConnectionRefused
    │   ├── HostUnreachable     no route, or no such host
    │   ├── Offline             not asked: the mount is to work without the network
    │   ├── TLSFailure
    │   └── ConnectionBroken    the connection ended in the middle of an answer
    ├── ContentMismatch         bytes that are not what their descriptor says (digest or size)
    ├── StorageFull             the cache's or the staging disk is full
    ├── StorageFailure          the local disk failed in another way
    ├── LocalFailure            the same, where the system's own error number is the best answer
    └── MountFailed             the filesystem could not be mounted or unmounted
"""


class OrasfsError(Exception):
    """Base of all deliberate failures; `str(error)` is a sentence for a person."""


class InvalidInput(OrasfsError):
    """Something given to us is malformed; the message says what and how to mend it."""


class InvalidName(InvalidInput):
    """A name, a reference or a mount source that is not valid."""


class InvalidContent(InvalidInput):
    """A manifest, an index or a layer that breaks its specification; names the field."""


class ContentRefused(InvalidContent):
    """Well-formed content that is refused, because following it would do harm."""


class NotFound(OrasfsError):
    """What was asked for does not exist."""


class ReadOnly(OrasfsError):
    """A write into something that is committed."""


class NotPermitted(OrasfsError):
    """An operation that this kind of name never allows."""


class NotADirectory(OrasfsError):
    """A directory operation on something else."""


class IsADirectory(OrasfsError):
    """A file operation on a directory."""


class AlreadyExists(OrasfsError):
    """Something has that name already."""


class NotEmpty(OrasfsError):
    """A directory that was to be removed or replaced has something in it."""


class CrossDevice(OrasfsError):
    """A move or a link between places that share no storage: copy instead."""


class Busy(OrasfsError):
    """Something is in use; the message says by what, and what to do."""


class TagMoved(OrasfsError):
    """A tag does not name what the work was based on; nothing was changed.

    Attributes:
        expected: the digest it should have had, "" where it should not have existed.
        found: the digest it has, "" where it does not exist.
    """

    def __init__(self, message: str, *, expected: str = "", found: str = "") -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class Aborted(OrasfsError):
    """Work that was given up because whoever had ordered it asked for that."""


class NoAttribute(OrasfsError):
    """The node has no extended attribute of that name."""


class Unsupported(OrasfsError):
    """The registry or the filesystem does not offer this."""


class RegistryError(OrasfsError):
    """The registry answered with a failure.

    Attributes:
        status: the HTTP status code, 0 where none applies.
        code: the specification's error code (for example MANIFEST_UNKNOWN), "" where none came.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Unauthorized(RegistryError):
    """The registry wants credentials."""


class CredentialsRejected(Unauthorized):
    """The registry, or its token service, does not take the user's credentials."""


class CredentialsUnusable(Unauthorized):
    """There may be credentials, but their file or helper fails; the message says how."""


class Forbidden(RegistryError):
    """The registry knows who asks and refuses."""


class RateLimited(RegistryError):
    """The registry still limits us after the retries that its deadline allows."""


class TagImmutable(RegistryError):
    """The registry lets nobody move, or remove, that tag."""


class QuotaExceeded(RegistryError):
    """The registry has no room left for who asks."""


class TooLarge(RegistryError):
    """The registry takes nothing of this size."""


class RegistryFailure(RegistryError):
    """A 5xx answer, or one that breaks the protocol."""

    @property
    def lacks_blob(self) -> bool:
        """Whether a manifest was refused because it names a blob that the registry lacks."""
        return self.code == "MANIFEST_BLOB_UNKNOWN"


class Unreachable(OrasfsError):
    """No answer came, or not the whole of it.

    Attributes:
        left_alone_seconds: for how long nobody will be asked at all, since nobody answered
            before; 0 for a failure of the request itself.
    """

    left_alone_seconds: float = 0.0


class TimedOut(Unreachable):
    """A deadline passed."""


class ConnectionRefused(Unreachable):
    """Nothing listens at the address."""


class HostUnreachable(Unreachable):
    """There is no route to the host, or no such host."""


class Offline(Unreachable):
    """Nobody was asked, because the mount is to work without the network."""


class TLSFailure(Unreachable):
    """The TLS handshake or the certificate failed."""


class ConnectionBroken(Unreachable):
    """The connection ended before the answer did."""


class ContentMismatch(OrasfsError):
    """Bytes whose size or digest is not what their descriptor says; they are never kept."""


class StorageFull(OrasfsError):
    """The local disk has no space left."""


class StorageFailure(OrasfsError):
    """The local disk failed."""


class LocalFailure(OrasfsError):
    """A failure of the local disk that the caller gets as the operating system told it.

    Attributes:
        number: the errno.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message, number)  # both: exceptions are copied by their arguments
        self.number = number

    def __str__(self) -> str:
        return str(self.args[0])


class MountFailed(OrasfsError):
    """The filesystem could not be mounted or unmounted; the message says what mends it."""
