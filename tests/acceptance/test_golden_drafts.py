"""The golden inputs, copied into drafts and committed: the reference client's digests, and what
other clients restore from a registry and from a layout.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import LayoutOne, RemoteOne, Repository
from tests.support.golden import golden_tags
from tests.support.goldendrafts import PACKED, RAW, Wanted, fill
from tests.support.mounted import Mounted, run
from tests.support.restored import restored
from tests.support.staged import GOLDEN_CREATED, GOLDEN_MTIME_NS

pytestmark = [pytest.mark.fuse, pytest.mark.registry, pytest.mark.slow]

CONTENT = "io.deis.oras.content.digest"
# Rounded to the second as the reference client rounds them, they are what they were.
FRACTIONS_NS = {"docs/readme2.md": 400_000_000, "docs/sub/large.txt": -500_000_000}


@dataclass(frozen=True)
class Bench:
    """A mounted repository, its registry, and what skopeo calls it."""

    repository: Repository
    mount: Path
    registry: DockerRegistry
    source: str


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@pytest.fixture(scope="module", params=["registry", "oci"])
def bench(
    request: pytest.FixtureRequest,
    server: DockerRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("home")
    environ = {"SOURCE_DATE_EPOCH": str(GOLDEN_CREATED)}
    repository: Repository = RemoteOne(server, server.host, "golden/drafts")
    source = f"docker://{server.host}/golden/drafts"
    if request.param == "oci":
        repository = LayoutOne(home / "layout")
        source = repository.source
    with Mounted(repository.source, home, environ=environ) as mounted:
        yield Bench(repository, mounted.path, server, source)


def commit(bench: Bench, tag: str, wanted: Wanted, inputs: Path) -> dict[str, Any]:
    """Commit a golden artifact by hand; return its manifest."""
    draft = bench.repository.draft(bench.mount, tag)
    draft.mkdir()
    fill(draft, wanted, inputs)
    for name, fraction in FRACTIONS_NS.items():
        if (draft / name).exists():
            moment = GOLDEN_MTIME_NS + fraction
            os.utime(draft / name, ns=(moment, moment))
            assert (draft / name).stat().st_mtime_ns == moment
    run(["sync", draft])
    manifest: dict[str, Any] = json.loads(bench.repository.manifest(tag))
    return manifest


@pytest.mark.parametrize("tag", RAW)
def test_raw_files_get_the_golden_digest(tag: str, bench: Bench, tmp_path: Path) -> None:
    commit(bench, tag, RAW[tag], tmp_path / "inputs")
    assert bench.repository.tags()[tag] == str(golden_tags()[tag].digest)


@pytest.mark.parametrize("tag", PACKED)
def test_packed_directories_get_the_golden_content_digest(
    tag: str, bench: Bench, tmp_path: Path
) -> None:
    made = commit(bench, tag, PACKED[tag], tmp_path / "inputs")
    golden = json.loads(golden_tags()[tag].raw)
    assert [layer.get("annotations") for layer in made["layers"]] == [
        layer.get("annotations") for layer in golden["layers"]
    ]
    assert any(CONTENT in layer["annotations"] for layer in made["layers"])
    assert made["config"] == golden["config"]


_PULL = """
import sys, warnings
warnings.simplefilter("ignore")
import oras.client
reference, out = sys.argv[1:]
client = oras.client.OrasClient(hostname=reference.partition("/")[0], insecure=True)
client.pull(target=reference, outdir=out)
"""


def test_skopeo_and_an_independent_client_restore_the_tree(bench: Bench, tmp_path: Path) -> None:
    """From a registry directly; from a layout by way of what skopeo copied to one."""
    wanted = Wanted(("artifact.txt", "docs", "nested", "empty.bin", "zeros.bin"))
    commit(bench, "all", wanted, tmp_path / "inputs")
    copied = f"{bench.registry.host}/copied/{tmp_path.name.lower()}:all"
    skopeo = ["skopeo", "copy", "--src-tls-verify=false", "--dest-tls-verify=false",
              "--preserve-digests", f"{bench.source}:all"]  # fmt: skip
    run([*skopeo, f"docker://{copied}"], timeout=60)
    run([*skopeo, f"dir:{tmp_path / 'dir'}"], timeout=60)
    raw = (tmp_path / "dir/manifest.json").read_bytes()
    assert raw == bench.repository.manifest("all")
    for each in (json.loads(raw)["config"], *json.loads(raw)["layers"]):
        name = each["digest"].removeprefix("sha256:")
        assert hashlib.sha256((tmp_path / "dir" / name).read_bytes()).hexdigest() == name
    out = tmp_path / "pulled"
    out.mkdir()
    run([sys.executable, "-c", _PULL, copied, out], timeout=60)
    assert restored(out) == restored(tmp_path / "inputs")
