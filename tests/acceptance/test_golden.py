"""What is mounted is what the reference client pulls: every golden artifact, both sources."""

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_registry import DockerRegistry
from tests.support.golden import GOLDEN, golden_tags
from tests.support.mounted import Mounted, run

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

LAYOUT = GOLDEN / "layout"
ARTIFACTS = sorted(tag for tag in golden_tags() if tag != "index")
REPOSITORY = "golden/artifacts"


@pytest.fixture(scope="module")
def layout_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount the golden layout as a repository without a server."""
    with Mounted(f"oci:{LAYOUT}", tmp_path_factory.mktemp("layout")) as mounted:
        yield mounted.path


@pytest.fixture(scope="module")
def registry_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Mount a docker-registry that skopeo filled with the golden artifacts."""
    with DockerRegistry() as registry:
        for tag in ARTIFACTS:
            registry.copy_from_layout(LAYOUT, tag, REPOSITORY)
        registry.push_layout(LAYOUT, "index", REPOSITORY)  # which skopeo cannot copy
        with Mounted(registry.host, tmp_path_factory.mktemp("registry")) as mounted:
            yield mounted.path / REPOSITORY


@pytest.fixture(params=["oci", pytest.param("registry", marks=pytest.mark.registry)])
def repository(request: pytest.FixtureRequest) -> Path:
    """Return the golden repository's directory in a mount, once from each source."""
    fixture = "layout_mount" if request.param == "oci" else "registry_mount"
    path = request.getfixturevalue(fixture)
    assert isinstance(path, Path)
    return path


def listing(root: Path) -> list[dict[str, Any]]:
    """List a directory on the local disk the way tests/golden/pulled does."""
    found: list[dict[str, Any]] = []
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        entry: dict[str, Any] = {
            "path": str(path.relative_to(root)),
            "mode": oct(stat.S_IMODE(status.st_mode)),
        }
        if stat.S_ISLNK(status.st_mode):
            entry |= {"type": "symlink", "target": str(path.readlink())}
        elif stat.S_ISDIR(status.st_mode):
            entry |= {"type": "directory"}
        else:
            entry |= {
                "type": "file",
                "size": status.st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "mtime": int(status.st_mtime),
            }
        found.append(entry)
    return sorted(found, key=lambda entry: entry["path"])


def packed_titles(tag: str) -> set[str]:
    """Return the titles of the packed directories of a golden artifact."""
    manifest = json.loads(golden_tags()[tag].raw)
    return {
        layer["annotations"]["org.opencontainers.image.title"].rstrip("/")
        for layer in manifest["layers"]
        if layer.get("annotations", {}).get("io.deis.oras.content.unpack") == "true"
    }


def expected(tag: str) -> list[dict[str, Any]]:
    """Return what the reference client pulled; raw files have the artifact's creation time."""
    pulled: list[dict[str, Any]] = json.loads((GOLDEN / "pulled" / f"{tag}.json").read_text())
    packed = packed_titles(tag)
    created = 1709251200  # 2024-03-01T00:00:00Z
    for entry in pulled:
        if entry["type"] == "file" and entry["path"].split("/")[0] not in packed:
            entry["mtime"] = created
    return sorted(pulled, key=lambda entry: entry["path"])


@pytest.mark.parametrize("tag", ARTIFACTS)
def test_a_copy_is_what_the_reference_client_pulls(
    repository: Path, tag: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(["cp", "-a", repository / tag, out], timeout=60)
    assert listing(out) == expected(tag)


@pytest.mark.parametrize("tag", sorted(golden_tags()))
def test_the_manifest_file_has_the_digest(repository: Path, tag: str) -> None:
    output = run(["sha256sum", repository / tag / ".oras/manifest.json"], timeout=60).stdout
    assert output.split()[0] == golden_tags()[tag].digest.hex


def test_an_index_shows_its_children_by_digest(repository: Path, tmp_path: Path) -> None:
    children = {f"sha256-{golden_tags()[tag].digest.hex}": tag for tag in ("single", "typed")}
    shown = run(["ls", repository / "index"], timeout=60).stdout.split()
    assert sorted(shown) == sorted(children)
    for name, tag in children.items():
        run(["cp", "-a", repository / "index" / name, tmp_path / tag], timeout=60)
        assert listing(tmp_path / tag) == expected(tag)


def test_every_file_of_the_repository_is_found(repository: Path) -> None:
    found = run(["find", repository, "-type", "f"], timeout=60).stdout.splitlines()
    wanted = {
        f"{repository}/{tag}/{entry['path']}"
        for tag in ARTIFACTS
        for entry in expected(tag)
        if entry["type"] == "file"
    }
    wanted |= {
        f"{repository}/index/sha256-{golden_tags()[tag].digest.hex}/artifact.txt"
        for tag in ("single", "typed")
    }
    assert set(found) == wanted


def test_tar_and_rsync_agree_with_cp(repository: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    run(["tar", "-S", "-C", repository / "multi", "-cf", archive, "."], timeout=60)
    (tmp_path / "tar").mkdir()
    run(["tar", "-C", tmp_path / "tar", "-xpf", archive], timeout=60)
    run(["rsync", "-aX", f"{repository}/multi/", tmp_path / "rsync"], timeout=60)
    assert listing(tmp_path / "tar") == expected("multi")
    assert listing(tmp_path / "rsync") == expected("multi")


def test_what_is_committed_cannot_be_written(repository: Path) -> None:
    script = (
        "import errno, os, sys\n"
        "base = sys.argv[1]\n"
        "calls = [\n"
        "    lambda: os.open(base + '/artifact.txt', os.O_WRONLY),\n"
        "    lambda: os.open(base + '/new', os.O_CREAT | os.O_WRONLY),\n"
        "    lambda: os.mkdir(base + '/newdir'),\n"
        "    lambda: os.symlink('x', base + '/link'),\n"
        "    lambda: os.unlink(base + '/artifact.txt'),\n"
        "    lambda: os.rename(base + '/artifact.txt', base + '/b'),\n"
        "    lambda: os.truncate(base + '/artifact.txt', 0),\n"
        "    lambda: os.chmod(base + '/artifact.txt', 0o600),\n"
        "    lambda: os.utime(base + '/artifact.txt'),\n"
        "    lambda: os.setxattr(base + '/artifact.txt', 'user.x', b'1'),\n"
        "]\n"
        "for number, call in enumerate(calls):\n"
        "    try:\n"
        "        call()\n"
        "    except OSError as error:\n"
        "        print(number, errno.errorcode[error.errno])\n"
        "    else:\n"
        "        print(number, 'succeeded')\n"
    )
    output = run(["python3", "-c", script, repository / "multi"], timeout=60).stdout
    assert output.split()[1::2] == ["EROFS"] * 10


def test_blocks_say_that_nothing_is_sparse(repository: Path) -> None:
    output = run(["stat", "-c", "%b %s", repository / "multi" / "artifact.txt"], timeout=60).stdout
    assert output.split() == ["1", "12"]
