"""The registry fails at each request of a commit in turn, in each way.

The cause is told, the draft is whole, the tag never names what is not complete, and the next
commit sends what is missing.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from orasfs.errors import OrasfsError, Unauthorized
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.staging.commit import Staged
from orasfs.staging.order import fetch_nothing, open_staged
from orasfs.staging.pack import PackSettings
from orasfs.staging.progress import Progress
from orasfs.staging.surroundings import Surroundings
from orasfs.staging.tree import StagedDirectory
from tests.fakes.pushable import PushableRegistry
from tests.support.loopback import Exchange
from tests.support.staged import commit, staged, threads_to_end

REPOSITORY = "team/site"
IMPATIENT = RetryPolicy(attempts=1)


@dataclass
class Fault:
    """What happens to one request."""

    status: int = 0
    is_done: bool = False  # done, but the answer is lost


FAULTS = {
    "reset": Fault(),
    "lost": Fault(is_done=True),
    "401": Fault(401),
    "429": Fault(429),
    "500": Fault(500),
    "503": Fault(503),
}


class FailingRegistry(PushableRegistry):
    """Fails the request of one number, counted from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_at: int | None = None
        self.fault = Fault()
        self.number = 0

    def respond(self, exchange: Exchange) -> None:
        number, self.number = self.number, self.number + 1
        if number != self.fail_at:
            super().respond(exchange)
            return
        length = int(exchange.headers.get("Content-Length", "0"))
        if self.fault.is_done and exchange.command == "PUT":
            # Done by the registry, and the connection breaks before the answer.
            self.fail(r".", method="PUT", truncate_after=0, reset=True)
            super().respond(exchange)
            self.heal()
        elif self.fault.status:
            exchange.rfile.read(length)
            with self._lock:
                self.requests.append((exchange.command, exchange.path))
            exchange.answer(self.fault.status, {"Retry-After": "1"}, b"")
        else:
            exchange.rfile.read(length // 2)
            exchange.hang_up(reset=True)


class Bench:
    """One draft and one registry."""

    def __init__(self, root: Path) -> None:
        self.tree = root / "tree"
        (self.tree / "docs").mkdir(parents=True)
        (self.tree / "a.bin").write_bytes(bytes(range(256)) * 2000)
        (self.tree / "docs/read.me").write_bytes(b"read me")
        self.directory = root / "draft"
        self.directory.mkdir()

    async def commit(self, registry: FailingRegistry) -> str:
        client = RemoteRegistry(registry.host, RegistrySettings(plain_http=True, retry=IMPATIENT))
        tree = staged(self.tree)
        assert isinstance(tree, StagedDirectory)
        content = Staged(tree, PackSettings(), self.directory, open_staged)
        around = Surroundings(lambda _digest: (), fetch_nothing, lambda: 1_700_000_000)
        try:
            with trio.fail_after(20):
                target = client.repository(REPOSITORY)
                done = await commit(content, target, "v1", around, Progress(), expected=None)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 15):
                await threads_to_end()
                await client.aclose()
        return str(done.descriptor.digest)

    def snapshot(self) -> dict[str, str]:
        files = [path for path in self.tree.rglob("*") if path.is_file()]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _requests_of_a_commit(bench: Bench) -> int:
    with FailingRegistry() as registry:
        trio.run(bench.commit, registry)
        (bench.directory / "attempts.json").unlink()
        return registry.number


def _is_complete(registry: FailingRegistry) -> bool:
    """Tell whether what the tag names, if it names anything, has all its blobs."""
    tags = registry._tags[REPOSITORY]
    return all(digest in registry._manifests[REPOSITORY] for digest in tags.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_each_request_in_turn(kind: str, bench: Bench) -> None:
    before = bench.snapshot()
    failures: list[type[OrasfsError]] = []
    for number in range(_requests_of_a_commit(bench)):
        with FailingRegistry() as registry:
            registry.fail_at, registry.fault = number, FAULTS[kind]
            try:
                trio.run(bench.commit, registry)
            except OrasfsError as error:
                failures.append(type(error))
                assert _is_complete(registry)
            assert bench.snapshot() == before
            arrived = len(registry._blobs[REPOSITORY])
            registry.fail_at = None
            registry.forget_requests()
            digest = trio.run(bench.commit, registry)
            assert registry._tags[REPOSITORY] == {"v1": digest}
            assert registry.count("POST", r"/uploads/") == 3 - arrived
        (bench.directory / "attempts.json").unlink()
    assert failures
    if kind == "401":
        assert set(failures) == {Unauthorized}
