"""The faults of a network, each through a real mount: the errnos of the table of docs/ERRORS.md.

Deadlines are short here; how many requests and seconds a fault takes is measured below FUSE
(tests/registry/test_fault_table.py). ORASFS_FAULTY_MOUNT_READS says how many random reads are
made, ORASFS_SEED which.
"""

import contextlib
import errno
import itertools
import json
import os
import random
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from orasfs.fuse.errno import ERRNOS
from tests.fakes.wire import NO_FAULT, Fault
from tests.support.faulttable import FAULTS, KINDS, documented
from tests.support.faultyfront import FaultyRegistry
from tests.support.gestures import commit, refused
from tests.support.hasty import LAZY_BYTES, PROGRAM
from tests.support.mounted import Mounted, run
from tests.support.publish import manifest_of, publish_files

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

READS = int(os.environ.get("ORASFS_FAULTY_MOUNT_READS", "60"))
SEED = int(os.environ.get("ORASFS_SEED", "1"))
MOST_TRIES = 50
SMALL_BYTES, LARGE_BYTES = 900_000, 4 * LAZY_BYTES
HALF_OF = 1_200_000  # a body breaks in the middle of so many bytes, unless it is a manifest

# Makes four calls at once, and prints the errno of each, 0 for success.
_CALLS = """
import json, os, sys, threading
top = sys.argv[1]
def read(path, offset, size):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)
calls = {
    "small blob": lambda: read(top + "/small/f", 0, 100),
    "large blob": lambda: read(top + "/large/f", os.stat(top + "/large/f").st_size - 4096, 4096),
    "manifest": lambda: read(top + ":third/.oras/manifest.json", 0, 100),
    "tag": lambda: os.stat(top + ":fourth"),
}
found = {}
def call(name):
    try:
        calls[name]()
        found[name] = 0
    except OSError as error:
        found[name] = error.errno
threads = [threading.Thread(target=call, args=(name,)) for name in calls]
for each in threads: each.start()
for each in threads: each.join()
print(json.dumps(found))
"""


def server_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def publish(registry: FaultyRegistry) -> None:
    """Put in what no other registry has: all share one cache."""
    publish_files(registry, "a", "small", f=os.urandom(SMALL_BYTES))
    publish_files(registry, "a", "large", f=os.urandom(LARGE_BYTES))
    for tag in ("third", "fourth"):
        registry.put_manifest("a", tag, manifest_of(annotations={"at": f"{registry.host} {tag}"}))


def fail(registry: FaultyRegistry, name: str) -> None:
    """Let a fault of the table begin."""
    row = FAULTS[name]
    all_requests = itertools.count()

    def plan(method: str, path: str, number: int) -> Fault:
        size = registry.size_of(path) if "/manifests/" in path else HALF_OF
        # A rate limit is for all that a host is asked.
        return row.fault_of(size, next(all_requests) if "limited" in name else number)

    registry.forget_asked()
    if name == "refused":
        registry.refuse()
    elif name == "certificate":
        registry.speak(server_context(trustme.CA()))
    else:
        registry.plan = plan


def test_each_fault_has_its_errno(tmp_path: Path) -> None:
    """One host for each fault, so that none is left alone for another one's silence."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    options = (f"ca_file={tmp_path / 'ca.pem'}", "wait=20")
    with contextlib.ExitStack() as stack:
        hosts = {
            name: stack.enter_context(FaultyRegistry(server_context(authority))) for name in FAULTS
        }
        for registry in hosts.values():
            publish(registry)
        mounted = stack.enter_context(
            Mounted("registries", tmp_path / "m", *options, program=PROGRAM)
        )

        def measure(name: str) -> dict[str, int]:
            top = mounted.path / hosts[name].host / "a"
            run(["ls", top / "small", top / "large"])
            fail(hosts[name], name)
            done = run([sys.executable, "-I", "-c", _CALLS, top], timeout=60)
            found: dict[str, int] = json.loads(done.stdout)
            return found

        with ThreadPoolExecutor(4) as pool:
            found = dict(zip(FAULTS, pool.map(measure, FAULTS), strict=True))
    cells = documented()
    for name, row in FAULTS.items():
        for call in KINDS:
            if (name, call) == ("wrong", "large blob"):
                continue  # may be served, until it is complete: see test_mismatch.py
            symbol = cells[row.words, call].partition(",")[0]
            expected = 0 if symbol == "served" else getattr(errno, symbol)
            assert found[name][call] == expected, (name, call, symbol, found[name][call])


def some_faults(seed: int) -> Callable[[str, str, int], Fault]:
    """Return a plan of random faults."""
    numbers = random.Random(seed)  # noqa: S311 - to be had again

    def plan(method: str, path: str, number: int) -> Fault:
        place = numbers.choice([0, 1, 1000, numbers.randrange(200_000)])
        faults = [
            Fault(reset_after=place), Fault(truncate_after=place),
            Fault(status=500), Fault(status=503), Fault(ignores_range=True),
            Fault(stall_after=numbers.choice([-1, place])),
        ]  # fmt: skip
        if "/blobs/" in path:  # a size that HEAD lies about is believed as long as the tag
            faults += [Fault(is_wrong=True), Fault(short_by=1)]
        return numbers.choice(faults) if numbers.random() < 0.5 else NO_FAULT

    return plan


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as registry:
        yield registry


def test_random_reads_give_the_right_bytes_or_an_error(
    registry: FaultyRegistry, tmp_path: Path
) -> None:
    numbers = random.Random(SEED)  # noqa: S311 - to be had again
    contents = {f"t{number}": numbers.randbytes(numbers.randrange(1, 300_000))
                for number in range(READS // 2)}  # fmt: skip
    for tag, content in contents.items():
        publish_files(registry, "a", tag, f=content)
    allowed = set(ERRNOS.values()) - {errno.EAGAIN, errno.ENOENT, errno.EACCES}
    failures = 0
    with Mounted(registry.host, tmp_path, program=PROGRAM) as mounted:
        registry.plan = some_faults(SEED)
        for _ in range(READS):
            tag = numbers.choice(list(contents))
            offset = numbers.randrange(len(contents[tag]))
            try:
                found = _read(mounted.path / f"a:{tag}/f", offset)
            except OSError as error:
                if error.errno not in allowed:
                    raise
                failures += 1
                continue
            assert found == contents[tag][offset:]
        registry.plan = lambda *_: NO_FAULT
        for tag, content in contents.items():
            assert _in_the_end(mounted.path / f"a:{tag}/f") == content
    assert failures < READS


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        return file.readall()


def _in_the_end(path: Path) -> bytes:
    """Read a file of a network that is well again: a failure is remembered for a moment."""
    for _ in range(MOST_TRIES):
        try:
            return _read(path, 0)
        except OSError:
            threading.Event().wait(0.1)
    raise AssertionError(run(["cat", path.parent / ".oras/error"], check=False).stdout)


@pytest.mark.parametrize(
    ("fault", "exit_status", "words"),
    [
        # ECR, Harbor: what they say of a tag that may not move, and of no room.
        (Fault(status=400), 8, "cannot be overwritten because the repository is immutable"),
        (Fault(status=412), 8, "tag 'v1' configured as immutable"),
        (Fault(status=403), 7, "adding 1 MiB of storage resource exceeds the quota"),
    ],
)
def test_what_a_registry_refuses_keeps_the_draft(
    registry: FaultyRegistry, tmp_path: Path, fault: Fault, exit_status: int, words: str
) -> None:
    body = json.dumps({"errors": [{"code": "X", "message": words}]}).encode()
    with Mounted(registry.host, tmp_path) as mounted:
        draft = mounted.path / "a:v1"
        run(["mkdir", draft])
        (draft / "f").write_bytes(b"content")
        registry.refusal = (fault.status, body)
        status, said = refused(draft)
        assert status == exit_status
        assert words in said
        assert words in run(["cat", draft / ".oras/error"]).stdout
        assert (draft / "f").read_bytes() == b"content"
        registry.refusal = None
        commit(draft)
    assert registry.count("PUT", "/v2/a/manifests/v1") == 2
