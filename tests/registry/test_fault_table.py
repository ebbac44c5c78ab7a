"""What comes of each fault of a network, for each kind of request: docs/ERRORS.md has the table.

A clock of the wire's own, or trio's mock clock, tells the time to answer; delays between tries are
those without luck.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from orasfs.errors import OrasfsError
from orasfs.fuse.errno import errno_of
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.registry.bulk import BulkTransport
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.transport import Transport
from orasfs.store.cache import Cache
from orasfs.store.files.chunks import CHUNK_BYTES
from orasfs.store.options import CacheOptions, Verify
from tests.fakes.wire import NO_FAULT, Fault, Wire, WirePools, WireTransport
from tests.support.faulttable import FAULTS, Outcome, Row, documented
from tests.support.publish import OCI_MANIFEST, manifest_of

SMALL = bytes(range(250)) * 400
LARGE = SMALL * 20  # 2,000,000 bytes, over `lazy_bytes`
# All that is asked for to read it, and no more: what is fetched ahead would be counted or not.
READ = slice(4 * CHUNK_BYTES, 5 * CHUNK_BYTES)
MANIFEST = manifest_of()
REAL_SECONDS = 30


class Punctual(RetryPolicy):
    """Waits as long as it may."""

    def decide(
        self,
        attempt: int,
        elapsed_seconds: float,
        failure: "object",
        retry_after_seconds: float | None = None,
        *,
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> float | None:
        del jitter
        return super().decide(
            attempt,
            elapsed_seconds,
            failure,  # type: ignore[arg-type]  # passed on as it came
            retry_after_seconds,
            jitter=lambda: 1.0,
        )


SETTINGS = RegistrySettings(retry=Punctual())


def remote(wire: Wire) -> RemoteRepository:
    """Return a repository at the other end of a wire; both clocks are the wire's and trio's."""
    endpoint = Endpoint("registry.example")
    pools = WirePools(wire, endpoint, SETTINGS)
    bulk = BulkTransport(endpoint, SETTINGS, pools=pools, wait=wire.wait, clock=wire.clock)
    control = Transport(
        endpoint, SETTINGS, transport_factory=lambda _: WireTransport(wire, SETTINGS)
    )
    registry = RemoteRegistry(endpoint.host, SETTINGS, transport=control, bulk=bulk)
    return registry.repository("a")


def put_blob(wire: Wire, content: bytes) -> Descriptor:
    """Put a blob at the other end."""
    digest = Digest.of(content)
    wire.put(f"/v2/a/blobs/{digest}", content)
    return Descriptor("application/octet-stream", digest, len(content))


def put_manifest(wire: Wire) -> Descriptor:
    digest = Digest.of(MANIFEST)
    headers = {"Content_Type": OCI_MANIFEST, "Docker_Content_Digest": str(digest)}
    for name in ("v1", str(digest)):
        wire.put(f"/v2/a/manifests/{name}", MANIFEST, **headers)
    return Descriptor(OCI_MANIFEST, digest, len(MANIFEST))


def arm(wire: Wire, row: Row, size: int) -> None:
    """Let a row's fault happen, in bodies of so many bytes."""

    def plan(method: str, path: str, number: int) -> Fault:
        return row.fault_of(size, number) if path.startswith("/v2/a/") else NO_FAULT

    wire.plan = plan


async def read_blob(wire: Wire, row: Row, root: Path, content: bytes, part: slice) -> Outcome:
    """Read a part of a blob through the cache, as an open and a read do."""
    blob = put_blob(wire, content)
    verify = Verify.STRICT if row is FAULTS["wrong"] else Verify.LAZY
    options = CacheOptions(
        verify=verify, lazy_bytes=len(SMALL), idle_seconds=0.01, grace_seconds=0.01
    )
    is_range = len(content) > len(SMALL)
    arm(wire, row, CHUNK_BYTES if is_range else len(content))
    failure = 0
    async with trio.open_nursery() as nursery:
        cache = Cache(root, nursery, options=options)
        with trio.fail_after(REAL_SECONDS):
            try:
                reader = await cache.repository(remote(wire), "r", "a").open_blob(blob)
                assert await reader.read(part.start, part.stop - part.start) == content[part]
                reader.close()
            except OrasfsError as error:
                failure = errno_of(error)
            requests, now = len(wire.requests), wire.now
            await cache.aclose()
        nursery.cancel_scope.cancel()
    return Outcome(failure, requests, now)


async def ask(wire: Wire, work: Callable[[], object]) -> Outcome:
    """Measure a call of the control path."""
    started = trio.current_time()
    failure = 0
    try:
        await work()  # type: ignore[misc]  # one of two coroutine functions
    except OrasfsError as error:
        failure = errno_of(error)
    return Outcome(failure, len(wire.requests), round(trio.current_time() - started, 6))


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", ["small blob", "large blob"])
async def test_what_comes_of_a_fault_in_a_blob(name: str, kind: str, tmp_path: Path) -> None:
    content, part = (SMALL, slice(0, 1000)) if kind == "small blob" else (LARGE, READ)
    outcome = await read_blob(Wire(), FAULTS[name], tmp_path, content, part)
    assert str(outcome) == documented()[FAULTS[name].words, kind]


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("kind", ["manifest", "tag"])
async def test_what_comes_of_a_fault_in_a_small_answer(
    name: str, kind: str, autojump_clock: trio.testing.MockClock
) -> None:
    wire = Wire()
    manifest = put_manifest(wire)
    repository = remote(wire)
    arm(wire, FAULTS[name], len(MANIFEST))
    if kind == "manifest":
        outcome = await ask(wire, lambda: repository.fetch_manifest(manifest))
    else:
        outcome = await ask(wire, lambda: repository.resolve("v1"))
    assert str(outcome) == documented()[FAULTS[name].words, kind]
