"""The table of errnos: which one the caller of a system call gets for which exception class.

Owns every errno of the project. Pure, and itself free of pyfuse3.

INVARIANT: EAGAIN is never in it: a reader takes EAGAIN from read(2) for the end of the file.
INVARIANT: only `NotFound` is ENOENT: a passing fault must never look like a name that is absent.
"""

import errno

from orasfs import errors

# By class; a class that is not listed has the errno of its nearest listed ancestor.
ERRNOS: dict[type[errors.OrasfsError], int] = {
    errors.OrasfsError: errno.EIO,
    errors.InvalidInput: errno.EINVAL,
    errors.InvalidName: errno.EINVAL,
    errors.InvalidContent: errno.EIO,
    errors.ContentRefused: errno.EIO,
    errors.NotFound: errno.ENOENT,
    errors.ReadOnly: errno.EROFS,
    errors.NotPermitted: errno.EPERM,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.AlreadyExists: errno.EEXIST,
    errors.NotEmpty: errno.ENOTEMPTY,
    errors.CrossDevice: errno.EXDEV,
    errors.Busy: errno.EBUSY,
    errors.TagMoved: errno.ECANCELED,  # not ESTALE, which the kernel retries by itself
    errors.Aborted: errno.EINTR,
    errors.NoAttribute: errno.ENODATA,
    errors.Unsupported: errno.EOPNOTSUPP,
    errors.RegistryError: errno.EIO,
    errors.Unauthorized: errno.EACCES,
    errors.CredentialsRejected: errno.EACCES,
    errors.CredentialsUnusable: errno.EACCES,
    errors.Forbidden: errno.EACCES,
    errors.RateLimited: errno.EBUSY,
    errors.TagImmutable: errno.EEXIST,
    errors.QuotaExceeded: errno.EDQUOT,
    errors.TooLarge: errno.EFBIG,
    errors.RegistryFailure: errno.EIO,
    errors.Unreachable: errno.EIO,
    errors.TimedOut: errno.ETIMEDOUT,
    errors.ConnectionRefused: errno.ECONNREFUSED,
    errors.HostUnreachable: errno.EHOSTUNREACH,
    errors.Offline: errno.ENETUNREACH,
    errors.TLSFailure: errno.EPROTO,
    errors.ConnectionBroken: errno.EIO,
    errors.ContentMismatch: errno.EIO,
    errors.StorageFull: errno.ENOSPC,
    errors.StorageFailure: errno.EIO,
    errors.LocalFailure: errno.EIO,  # where the number it carries is no use
    errors.MountFailed: errno.EIO,  # never reaches a caller: there is no mount yet
}

_NEVER_PASSED_ON = frozenset({0, errno.EAGAIN, errno.ENOENT})


def errno_of(error: errors.OrasfsError) -> int:
    """Return the errno of the most specific listed class of `error`.

    That of a `LocalFailure` is the system's own, as far as the invariants allow.
    """
    if isinstance(error, errors.LocalFailure) and error.number not in _NEVER_PASSED_ON:
        return error.number
    for cls in type(error).__mro__:
        number = ERRNOS.get(cls)
        if number is not None:
            return number
    return errno.EIO  # pragma: no cover - OrasfsError itself is listed
