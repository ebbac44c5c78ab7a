"""The errno table is complete, and keeps its two promises."""

import copy
import errno
import inspect

import pytest

from orasfs import errors
from orasfs.fuse.errno import ERRNOS, errno_of

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.OrasfsError)
]

EXPECTED = [
    (errors.NotFound, errno.ENOENT),
    (errors.InvalidName, errno.EINVAL),
    (errors.InvalidContent, errno.EIO),
    (errors.ContentRefused, errno.EIO),
    (errors.ContentMismatch, errno.EIO),
    (errors.ReadOnly, errno.EROFS),
    (errors.NotPermitted, errno.EPERM),
    (errors.NotADirectory, errno.ENOTDIR),
    (errors.IsADirectory, errno.EISDIR),
    (errors.NoAttribute, errno.ENODATA),
    (errors.Unsupported, errno.ENOTSUP),
    (errors.Unauthorized, errno.EACCES),
    (errors.CredentialsRejected, errno.EACCES),
    (errors.CredentialsUnusable, errno.EACCES),
    (errors.Forbidden, errno.EACCES),
    (errors.RateLimited, errno.EBUSY),
    (errors.RegistryFailure, errno.EIO),
    (errors.TimedOut, errno.ETIMEDOUT),
    (errors.ConnectionRefused, errno.ECONNREFUSED),
    (errors.HostUnreachable, errno.EHOSTUNREACH),
    (errors.TLSFailure, errno.EPROTO),
    (errors.ConnectionBroken, errno.EIO),
    (errors.AlreadyExists, errno.EEXIST),
    (errors.NotEmpty, errno.ENOTEMPTY),
    (errors.CrossDevice, errno.EXDEV),
    (errors.Busy, errno.EBUSY),
    (errors.TagMoved, errno.ECANCELED),
    (errors.TagImmutable, errno.EEXIST),
    (errors.QuotaExceeded, errno.EDQUOT),
    (errors.TooLarge, errno.EFBIG),
    (errors.Aborted, errno.EINTR),
    (errors.StorageFull, errno.ENOSPC),
    (errors.StorageFailure, errno.EIO),
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_exception_class_is_in_the_table(cls: type[errors.OrasfsError]) -> None:
    assert cls in ERRNOS


@pytest.mark.parametrize(("cls", "number"), EXPECTED)
def test_the_errno_says_what_happened(cls: type[errors.OrasfsError], number: int) -> None:
    assert errno_of(cls("why")) == number


def test_a_class_that_is_not_listed_has_the_errno_of_its_nearest_ancestor() -> None:
    class MovedAway(errors.NotFound):
        pass

    assert errno_of(MovedAway("gone")) == errno.ENOENT


def test_nothing_is_eagain() -> None:
    assert errno.EAGAIN not in ERRNOS.values()


def test_only_not_found_is_enoent() -> None:
    assert [cls for cls, number in ERRNOS.items() if number == errno.ENOENT] == [errors.NotFound]


def test_a_local_failure_has_the_number_of_the_system() -> None:
    assert errno_of(errors.LocalFailure("setxattr", errno.E2BIG)) == errno.E2BIG


@pytest.mark.parametrize("number", [0, errno.EAGAIN, errno.ENOENT])
def test_a_local_failure_breaks_no_promise(number: int) -> None:
    assert errno_of(errors.LocalFailure("read", number)) == errno.EIO


def test_a_local_failure_can_be_copied() -> None:
    found = copy.copy(errors.LocalFailure("write failed", errno.EFBIG))
    assert (str(found), found.number) == ("write failed", errno.EFBIG)
