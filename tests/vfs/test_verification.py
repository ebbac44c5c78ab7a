from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.vfs.verification import SERVED_VERIFIED_BYTES, Verification
from tests.fakes.repositories import FakeReader

DIGEST = Digest.of(b"x")
SMALL = Descriptor("a/b", DIGEST, SERVED_VERIFIED_BYTES)
LARGE = Descriptor("a/b", DIGEST, SERVED_VERIFIED_BYTES + 1)


def test_a_small_blob_is_never_served_unverified() -> None:
    assert Verification().is_verified(SMALL)


def test_a_large_blob_is_verified_once_a_reader_says_so() -> None:
    verification, reader = Verification(), FakeReader(b"x")
    assert not verification.is_verified(LARGE)
    reader.is_verified = False
    verification.opened(DIGEST, reader)
    assert not verification.is_verified(LARGE)
    reader.is_verified = True
    assert verification.is_verified(LARGE)
    verification.closed(DIGEST, reader)
    assert verification.is_verified(LARGE)
    verification.forget(DIGEST)
    assert not verification.is_verified(LARGE)


def test_a_reader_that_closes_early_proves_nothing() -> None:
    verification, readers = Verification(), [FakeReader(b"x"), FakeReader(b"x")]
    for reader in readers:
        reader.is_verified = False
        verification.opened(DIGEST, reader)
    for reader in readers:
        verification.closed(DIGEST, reader)
    assert not verification.is_verified(LARGE)
