"""A process killed in mid-download, and the next one."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import trio

from orasfs.oci.digest import Digest
from orasfs.store.cache import Cache
from tests.fakes.source import MemorySource

ROOT = Path(__file__).parent.parent.parent
SIZE = 5_000_000
STOP_AT = 3_000_000


def content() -> bytes:
    return random.Random(1).randbytes(SIZE)  # noqa: S311 - the same bytes in both processes


async def begin_and_wait(root: Path) -> None:
    """Download up to the gate, say so, and wait for the signal."""
    source = MemorySource()
    source.gate_at = STOP_AT
    descriptor = source.add_blob(content())
    async with trio.open_nursery() as nursery:
        repository = Cache(root, nursery).repository(source, "host", "a")
        await repository.open_blob(descriptor)
        await trio.to_thread.run_sync(source.at_gate.wait)
        print("at the gate", flush=True)  # noqa: T201 - what the test waits for
        await trio.sleep(20)


def test_killed_download_is_resumed_without_a_wrong_byte(tmp_path: Path) -> None:
    script = (
        "import sys, trio, pathlib\n"
        "from tests.store.test_crash import begin_and_wait\n"
        "trio.run(begin_and_wait, pathlib.Path(sys.argv[1]))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at the gate\n"
        process.send_signal(signal.SIGKILL)
    assert not list((tmp_path / "blobs").rglob("*")), "nothing unverified has a final name"

    source = MemorySource()
    descriptor = source.add_blob(content())

    async def resume() -> bytes:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                cache = Cache(tmp_path, nursery)
                reader = await cache.repository(source, "host", "a").open_blob(descriptor)
                got = await reader.read(0, SIZE)
                reader.close()
                await cache.aclose()
                nursery.cancel_scope.cancel()
        return got

    assert Digest.of(trio.run(resume)) == descriptor.digest
    assert [request.start for request in source.streams] == [STOP_AT]
    assert source.bytes_sent == SIZE - STOP_AT
