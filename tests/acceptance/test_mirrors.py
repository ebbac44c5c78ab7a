"""Reading through a real pull-through cache that a hosts.toml names, and what it does wrong."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.mounted import Mounted, run
from tests.support.publish import OCI_MANIFEST, digest_of, publish_files

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

MIB = 1024 * 1024
SIZE_MIB = int(os.environ.get("ORASFS_MIRROR_MIB", "70"))  # 500: scripts/soak
BLOBS = r"/blobs/"
READ_SECONDS = 120.0


def write_hosts(directory: Path, host: str, *mirrors: str) -> Path:
    """Name mirrors of a registry, by their URLs; return the value of `hosts_dir`."""
    place = directory / f"{host.replace(':', '_')}_"
    place.mkdir(parents=True)
    entries = [f'[host."{url}"]\ncapabilities = ["pull", "resolve"]\n' for url in mirrors]
    (place / "hosts.toml").write_text(f'server = "http://{host}"\n' + "".join(entries))
    return directory


def read(path: Path) -> bytes:
    """Read a file with a deadline."""
    done = subprocess.run(["cat", path], capture_output=True, timeout=READ_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def leave_unfinished(mounted: Mounted, *names: str) -> None:
    """Begin to read files of which only a part comes, and wait until that part is there."""
    readers = [
        subprocess.Popen(["cat", mounted.path / name], stdout=subprocess.DEVNULL) for name in names
    ]
    try:
        deadline = time.monotonic() + READ_SECONDS
        partial = [2 * MIB] * len(names)
        while [p.stat().st_size for p in mounted.cache.glob("ingest/*.partial")] != partial:
            assert time.monotonic() < deadline, "nothing came"
            time.sleep(0.05)  # noqa: TID251 - nothing tells what another process has written
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


class Chain:
    """A registry, its pull-through cache, and what counts the requests to each."""

    def __init__(self, registry: DockerRegistry, origin: Front, cache: DockerRegistry) -> None:
        self.registry = registry
        self.origin = origin
        self.cache = cache


@pytest.fixture
def chain() -> Iterator[Chain]:
    with (
        DockerRegistry() as registry,
        Front(registry.port) as origin,
        DockerRegistry(origin=f"http://{origin.host}") as cache,
    ):
        yield Chain(registry, origin, cache)


def test_many_mounts_share_what_one_cache_fetched(chain: Chain, tmp_path: Path) -> None:
    layers = {
        "large.bin": os.urandom((SIZE_MIB - 4) * MIB),
        "small.bin": os.urandom(3 * MIB),
        "tiny.txt": b"tiny",
    }
    digest = publish_files(chain.registry, "team/model", "v1", **layers)
    hosts = write_hosts(tmp_path / "hosts", chain.origin.host, f"http://{chain.cache.host}")
    first = Mounted(f"{chain.origin.host}/team/model:v1", tmp_path / "1", f"hosts_dir={hosts}")
    with first:
        for name, expected in layers.items():
            run(["cp", first.path / name, tmp_path / name], READ_SECONDS)
            assert (tmp_path / name).read_bytes() == expected
    # docker-registry 2.8 asks twice for what it does not have: to serve, and to keep.
    assert chain.origin.count("GET", BLOBS) <= 2 * len(layers)
    chain.origin.forget_requests()
    second = Mounted(
        f"{chain.origin.host}/team/model@{digest}", tmp_path / "2", f"hosts_dir={hosts}"
    )
    with second:
        for name, expected in layers.items():
            run(["cp", second.path / name, tmp_path / name], READ_SECONDS)
            assert (tmp_path / name).read_bytes() == expected
    assert chain.origin.requests == []


def test_a_mirror_that_stops_is_passed_over_and_reading_goes_on(
    chain: Chain, tmp_path: Path
) -> None:
    before, after = os.urandom(3 * MIB), os.urandom(3 * MIB)
    publish_files(chain.registry, "team/a", "v1", before=before, after=after)
    hosts = write_hosts(tmp_path / "hosts", chain.origin.host, f"http://{chain.cache.host}")
    with Mounted(f"{chain.origin.host}/team/a", tmp_path / "1", f"hosts_dir={hosts}") as mounted:
        assert read(mounted.path / "v1/before") == before
        chain.cache.stop()
        assert read(mounted.path / "v1/after") == after
        assert "mirror passed over" in mounted.log()
        for number in range(6):
            run(["stat", mounted.path / f"none-{number}"], check=False)
        status = json.loads((mounted.path / ".orasfs/status.json").read_text())
        (registry,) = status["registries"].values()
        assert registry["circuits"][chain.origin.host]["state"] == "closed"
        assert registry["circuits"][chain.cache.host]["opened"] >= 1
        assert registry["reachable"]


def test_a_mirror_that_ends_in_the_middle_of_a_blob_is_replaced_by_the_origin(
    tmp_path: Path,
) -> None:
    expected = os.urandom(8 * MIB)
    with FakeRegistry() as origin, FakeRegistry() as mirror:
        for registry in (origin, mirror):
            publish_files(registry, "team/a", "v1", file=expected)
        mirror.fail(BLOBS, truncate_after=3 * MIB, reset=True)
        mirror.fail(BLOBS, status=500, times=-1)
        hosts = write_hosts(tmp_path / "hosts", origin.host, f"http://{mirror.host}")
        with Mounted(f"{origin.host}/team/a:v1", tmp_path / "1", f"hosts_dir={hosts}") as mounted:
            assert read(mounted.path / "file") == expected
        ranges = [fields.get("range", "") for fields in origin.request_headers]
        assert [found for found in ranges if found], "the origin was asked for the rest only"
        assert origin.count("GET", BLOBS) == 1


@pytest.mark.parametrize("size", [3 * MIB, 65 * MIB])
def test_wrong_bytes_of_a_mirror_are_found_out_before_anybody_sees_them(
    size: int, tmp_path: Path
) -> None:
    right, wrong = os.urandom(size), os.urandom(size)
    with FakeRegistry() as origin, FakeRegistry() as mirror:
        for registry in (origin, mirror):
            publish_files(registry, "team/a", "v1", file=right)
        mirror.put_blob_as("team/a", digest_of(right), wrong)
        hosts = write_hosts(tmp_path / "hosts", origin.host, f"http://{mirror.host}")
        with Mounted(f"{origin.host}/team/a:v1", tmp_path / "1", f"hosts_dir={hosts}") as mounted:
            assert read(mounted.path / "file") == right
            assert "mirror served wrong content" in mounted.log()
            assert mirror.count("GET", BLOBS) == origin.count("GET", BLOBS) == 1


def test_a_mirror_that_ignores_ranges_is_read_to_its_end_and_not_asked_for_one_again(
    tmp_path: Path,
) -> None:
    files = {name: os.urandom(6 * MIB) for name in ("one", "two")}
    with FakeRegistry() as origin, FakeRegistry() as mirror:
        for registry in (origin, mirror):
            publish_files(registry, "team/a", "v1", **files)
        hosts = write_hosts(tmp_path / "hosts", origin.host, f"http://{mirror.host}")
        mounted = Mounted(f"{origin.host}/team/a:v1", tmp_path / "1", f"hosts_dir={hosts}")
        # What a killed daemon left of each is gone on with by a range.
        mirror.fail(BLOBS, stall_after=2 * MIB, times=2)
        with mounted:
            leave_unfinished(mounted, *files)
            mounted.kill9()
        mirror.heal()
        mirror.fail(BLOBS, ignore_range=True, times=-1)
        mirror.forget_requests()
        with mounted:
            for name, expected in files.items():
                assert read(mounted.path / name) == expected
        ranges = [fields.get("range", "") for fields in mirror.request_headers]
        assert [found for found in ranges if found] == [f"bytes={2 * MIB}-{6 * MIB - 1}"]
        assert mirror.count("GET", BLOBS) == 2
        assert origin.count("GET", BLOBS) == 0


def test_an_ill_formed_file_is_told_once_and_the_origin_is_read(tmp_path: Path) -> None:
    with FakeRegistry() as origin:
        publish_files(origin, "team/a", "v1", file=b"content")
        hosts = write_hosts(tmp_path / "hosts", origin.host)
        (place,) = hosts.glob("*/hosts.toml")
        place.write_text('[host."https://mirror.example"]\ncapabilities = ["read"]\n')
        with Mounted(f"{origin.host}/team/a:v1", tmp_path / "1", f"hosts_dir={hosts}") as mounted:
            assert read(mounted.path / "file") == b"content"
            log = mounted.log()
            assert log.count("mirrors are not used") == 1
            assert f'{place}: host."https://mirror.example": capabilities: expected' in log


def test_pushes_go_to_the_origin(tmp_path: Path) -> None:
    with DockerRegistry() as origin, FakeRegistry() as mirror:
        hosts = write_hosts(tmp_path / "hosts", origin.host, f"http://{mirror.host}")
        with Mounted(f"{origin.host}/team/new", tmp_path / "1", f"hosts_dir={hosts}") as mounted:
            draft = mounted.path / "v1"
            draft.mkdir()
            (draft / "file").write_bytes(b"pushed")
            run(["sync", draft])
            assert (draft / "file").read_bytes() == b"pushed"
        accept = {"Accept": OCI_MANIFEST}
        assert origin.request("HEAD", "/v2/team/new/manifests/v1", headers=accept)[0] == 200
        assert {method for method, _ in mirror.requests} <= {"GET", "HEAD"}
