"""A registry that redirects its blobs to storage on another port, by addresses that expire.

ORASFS_EXPIRING_BYTES and ORASFS_EXPIRING_SECONDS say how much is read, at what pace: the size of
the blob, and for how long each address of it holds (a fifth of the read, at least).
"""

import os
import random
from pathlib import Path

import pytest

from tests.fakes.redirecting import SIGNATURE, RedirectingRegistry, SigningStorage
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_files
from tests.support.secrets import HEADER_SECRET, SECRET, check_no_secret, write_config

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SIZE = int(os.environ.get("ORASFS_EXPIRING_BYTES", "6000000"))
SECONDS = float(os.environ.get("ORASFS_EXPIRING_SECONDS", "0.5"))


def test_a_slow_read_outlives_the_addresses_that_it_is_served_from(tmp_path: Path) -> None:
    content = random.Random(SIZE).randbytes(SIZE)  # noqa: S311 - of no secret
    rate = int(SIZE / SECONDS / 5)
    with (
        SigningStorage(seconds=SECONDS, rate=rate) as storage,
        RedirectingRegistry(storage, {"user": SECRET}) as registry,
    ):
        publish_files(registry, "a", "v1", **{"large.bin": content})
        config = write_config(tmp_path / "config.json", registry.host)
        mounted = Mounted(registry.host, tmp_path / "m", f"registry_config={config}")
        with mounted.in_background("-H", f"X-Own: {HEADER_SECRET}"):
            run(["cp", mounted.path / "a/v1/large.bin", tmp_path / "copy"], timeout=300)
            check_no_secret(mounted, SIGNATURE, HEADER_SECRET)
        assert (tmp_path / "copy").read_bytes() == content
        assert storage.secrets_seen == []
        resumed = [wanted for wanted in storage.served if not wanted.startswith("bytes=0-")]
        assert len(resumed) >= 4
        assert registry.request_headers[-1]["x-own"] == HEADER_SECRET


def test_storage_gets_no_credentials_whoever_asks(tmp_path: Path) -> None:
    """By range, whole, and again from a cold cache."""
    small, large = b"small", os.urandom(3_000_000)
    with (
        SigningStorage(seconds=60) as storage,
        RedirectingRegistry(storage, {"user": SECRET}) as registry,
    ):
        publish_files(registry, "a", "v1", s=small, l=large)
        config = write_config(tmp_path / "config.json", registry.host)
        for options in ((), ("verify=strict",)):
            home = tmp_path / f"m{len(options)}"
            words = (f"registry_config={config}", *options)
            with Mounted(registry.host, home, *words) as mounted:
                assert (mounted.path / "a/v1/s").read_bytes() == small
                assert (mounted.path / "a/v1/l").read_bytes() == large
                assert (mounted.path / "a/v1/.oras/config").read_bytes() == b"{}"
                check_no_secret(mounted, SIGNATURE)
        assert len(storage.served) >= 6
        assert storage.secrets_seen == []
        assert any("authorization" in headers for headers in registry.request_headers)
