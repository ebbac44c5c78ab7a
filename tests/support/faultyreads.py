"""Random reads of random blobs over a network that fails at random, below FUSE.

`read_faultily` makes rounds of them, each with a cache of its own, several readers at a time, and
raises AssertionError where a promise is broken:

* with `verify=strict`, of blobs up to `lazy_bytes`, and of what says that it is verified, no wrong
  byte is ever returned; nor of any blob whose bytes were right on the way;
* what fails says why, and never as EAGAIN or ENOENT;
* what the cache keeps is what its name says;
* once the network is well again, blobs are read (with other bytes served before: EIO).
"""

import errno
import hashlib
import random
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trio

from orasfs.errors import OrasfsError
from orasfs.fuse.errno import errno_of
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.storage import BlobOpener, BlobReader
from orasfs.registry.bulk import BulkTransport
from orasfs.registry.circuit import CircuitPolicy
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.settings import RegistrySettings
from orasfs.store.cache import Cache
from orasfs.store.files.chunks import CHUNK_BYTES
from orasfs.store.options import CacheOptions, Verify
from tests.fakes.wire import NO_FAULT, Fault, Wire, WirePools

LAZY_BYTES = 64 * 1024
ROUND_READS = 12
MAX_FAILURES = 5
NO_CIRCUIT = CircuitPolicy(threshold=1_000_000)  # each read shall find a fault of its own
SETTLE_SECONDS = 0.002
READERS = 3
ROUND_SECONDS = 60.0
_BLOB = re.compile(r"/v2/a/blobs/(?P<digest>.+)")


@dataclass
class Tally:
    """What happened: so many reads, errnos, faults."""

    reads: int = 0
    served_wrong: int = 0
    errnos: Counter[str] = field(default_factory=Counter)
    faults: int = 0


class Round:
    """One cache on one network.

    Args:
        numbers: random ones.
        verify: what is promised of large blobs.
        tally: what to count in.
    """

    def __init__(self, numbers: random.Random, verify: Verify, tally: Tally) -> None:
        self._numbers = numbers
        self._faults = random.Random(numbers.random())  # noqa: S311 - requests come in any order
        self._is_strict = verify is Verify.STRICT
        self._tally = tally
        self._wire = Wire()
        self._wire.plan = self._plan
        self._rate = numbers.choice([0.2, 0.5, 0.8])
        self._lied = set[str]()
        self.options = CacheOptions(
            verify=verify, lazy_bytes=LAZY_BYTES, idle_seconds=0.01, grace_seconds=0.01,
            failure_seconds=0.0, open_seconds=1.0,
        )  # fmt: skip
        sizes = [numbers.randint(1, LAZY_BYTES) for _ in range(3)]
        sizes += [numbers.randint(LAZY_BYTES + 1, 5 * CHUNK_BYTES) for _ in range(3)]
        self._contents = dict(map(self._put, sizes))

    def _put(self, size: int) -> tuple[Descriptor, bytes]:
        content = self._numbers.randbytes(size)
        digest = Digest.of(content)
        self._wire.put(f"/v2/a/blobs/{digest}", content)
        return Descriptor("application/octet-stream", digest, size), content

    def _plan(self, method: str, path: str, number: int) -> Fault:
        if self._faults.random() >= self._rate:
            return NO_FAULT
        self._tally.faults += 1
        fault = _some_fault(self._faults)
        match = _BLOB.match(path)
        if fault.is_wrong and match is not None:
            self._lied.add(match["digest"])
        return fault

    def repository(self, cache: Cache) -> BlobOpener:
        """Return the repository behind the cache."""
        endpoint, settings = Endpoint("registry.example"), RegistrySettings(circuit=NO_CIRCUIT)
        wire = self._wire
        pools = WirePools(wire, endpoint, settings)
        bulk = BulkTransport(endpoint, settings, pools=pools, wait=wire.wait, clock=wire.clock)
        remote = RemoteRegistry(endpoint.host, settings, bulk=bulk)
        return cache.repository(remote.repository("a"), endpoint.host, "a")

    async def read(self, repository: BlobOpener, count: int) -> None:
        """Open blobs at random, and read each a few times."""
        while count > 0:
            blob, content = self._numbers.choice(list(self._contents.items()))
            try:
                reader = await repository.open_blob(blob)
            except OrasfsError as error:
                self._count_failure(error)
                count -= 1
                continue
            for _ in range(min(count, self._numbers.randint(1, 6))):
                await self._read_once(reader, blob, content)
                count -= 1
            reader.close()

    async def _read_once(self, reader: BlobReader, blob: Descriptor, content: bytes) -> None:
        offset = self._numbers.randrange(len(content))
        size = self._numbers.choice([1, 4096, 65_536, 262_144, len(content)])
        was_verified = reader.is_verified
        try:
            found = await reader.read(offset, size)
        except OrasfsError as error:
            self._count_failure(error)
            return
        self._tally.reads += 1
        if found == content[offset : offset + size]:
            return
        assert not was_verified, f"{blob} is verified, and wrong"
        assert not self._is_strict, f"{blob} is wrong although verify=strict"
        assert blob.size > LAZY_BYTES, f"{blob} is wrong although it is small"
        assert str(blob.digest) in self._lied, f"{blob} is wrong, and was not on the way"
        assert len(found) == len(content[offset : offset + size])
        self._tally.served_wrong += 1

    def _count_failure(self, error: OrasfsError) -> None:
        number = errno_of(error)
        assert number not in (errno.EAGAIN, errno.ENOENT), error
        assert str(error)
        self._tally.reads += 1
        self._tally.errnos[errno.errorcode[number]] += 1

    async def check_healed(self, repository: BlobOpener) -> None:
        """Read all blobs without faults, until each is verified or found out."""
        self._rate = 0.0
        for blob, content in self._contents.items():
            failures = 0
            while failures < MAX_FAILURES:
                try:
                    reader = await repository.open_blob(blob)
                    found = await reader.read(0, blob.size)
                except OrasfsError as error:
                    failures += 1
                    # A download that began while there were faults, or one that had been lied to.
                    if failures > 1 and str(blob.digest) not in self._lied:
                        raise AssertionError(f"{blob} is not read without faults") from error
                    continue
                was_verified = reader.is_verified
                reader.close()
                assert found == content or (not self._is_strict and not was_verified)
                if was_verified:
                    break
                await trio.sleep(SETTLE_SECONDS)  # it is being verified, in a thread
            assert failures < MAX_FAILURES or not self._is_strict


def _some_fault(numbers: random.Random) -> Fault:
    """Return a fault, half-way through some body as often as before it."""
    place = numbers.choice([0, 1, 1000, 50_000, 262_143, numbers.randrange(1_000_000)])
    return numbers.choice(
        [
            Fault(is_refused=True),
            Fault(reset_after=place),
            Fault(truncate_after=place),
            Fault(short_by=place),
            Fault(stall_after=numbers.choice([-1, place])),
            Fault(status=429, headers={"Retry-After": "3"}),
            Fault(status=numbers.choice([500, 502, 503, 504])),
            Fault(is_wrong=True),
            Fault(ignores_range=True),
            Fault(is_wrong=True, ignores_range=True),
            Fault(has_wrong_certificate=True),
        ]
    )


def check_kept(root: Path) -> None:
    """Check that every blob in the cache is what its name says."""
    for path in (root / "blobs/sha256").iterdir():
        if len(path.name) == 64:
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


async def read_faultily(seed: int, reads: int, verify: Verify) -> Tally:
    """Make so many reads."""
    tally = Tally()
    numbers = random.Random(seed)  # noqa: S311 - to be had again
    while tally.reads < reads:
        one = Round(numbers, verify, tally)
        with tempfile.TemporaryDirectory() as directory, trio.fail_after(ROUND_SECONDS):
            async with trio.open_nursery() as nursery:
                cache = Cache(Path(directory), nursery, options=one.options)
                repository = one.repository(cache)
                async with trio.open_nursery() as readers:
                    for _ in range(READERS):
                        readers.start_soon(one.read, repository, ROUND_READS // READERS)
                await one.check_healed(repository)
                await cache.aclose()
                nursery.cancel_scope.cancel()
            check_kept(Path(directory))
    return tally
