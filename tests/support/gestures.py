"""What people type at a mount, and what then is in the repository, seen from outside the mount.

Owns the two kinds of repositories that commits are tried on: one of a real registry, behind a
front that counts, and a local layout.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from orasfs.store.layoutwriter import create_layout
from tests.support.docker_registry import DockerRegistry
from tests.support.front import Front
from tests.support.mounted import PROJECT, run
from tests.support.publish import OCI_INDEX, OCI_MANIFEST

_REF_NAME = "org.opencontainers.image.ref.name"
_READING = ("GET", "HEAD")


def orasfs(
    *words: str | Path, check: bool = True, timeout: float = 90.0
) -> subprocess.CompletedProcess[str]:
    """Run the command with a deadline."""
    command = [sys.executable, "-m", "orasfs", *map(str, words)]
    return run(command, timeout, check=check, environ={"PYTHONPATH": str(PROJECT)})


def commit(*paths: Path, timeout: float = 90.0) -> str:
    """Commit drafts; return the digest of the last."""
    done = orasfs("commit", "-q", *paths, timeout=timeout)
    return done.stdout.strip().rpartition("@")[2]


def refused(*paths: Path, timeout: float = 90.0) -> tuple[int, str]:
    """Commit drafts in vain; return the exit status and what was said."""
    done = orasfs("commit", "-q", *paths, check=False, timeout=timeout)
    assert done.returncode, done.stdout
    return done.returncode, done.stderr


def reports(mount: Path) -> list[dict[str, object]]:
    """Return what the mount tells of its commits."""
    found: list[dict[str, object]] = json.loads((mount / ".orasfs/commits.json").read_bytes())
    return found


class Repository:
    """A repository that one can commit to.

    Attributes:
        source: what to mount.
        begin: the path, in the mount, of the directory in which tags are.
    """

    source: str
    begin: str

    def draft(self, mount: Path, tag: str) -> Path:
        """Return the path by which a draft is begun, whether the repository exists or not."""
        raise NotImplementedError

    def tag(self, mount: Path, tag: str) -> Path:
        """Return the path of a tag."""
        return mount / self.begin / tag

    def tags(self) -> Mapping[str, str]:
        """Return the digests by tag."""
        raise NotImplementedError

    def manifest(self, tag: str) -> bytes:
        """Return the bytes of a manifest."""
        raise NotImplementedError

    def blob(self, digest: str) -> bytes:
        """Return the bytes of a blob."""
        raise NotImplementedError


class RemoteOne(Repository):
    """A repository of a registry."""

    def __init__(self, registry: DockerRegistry, host: str, name: str) -> None:
        self._registry = registry
        self.name = name
        self.source = host
        self.begin = name

    def draft(self, mount: Path, tag: str) -> Path:
        return mount / f"{self.name}:{tag}"

    def tags(self) -> Mapping[str, str]:
        _, _, body = self._registry.request("GET", f"/v2/{self.name}/tags/list")
        return {tag: self._get(tag)[0] for tag in json.loads(body).get("tags") or ()}

    def manifest(self, tag: str) -> bytes:
        return self._get(tag)[1]

    def blob(self, digest: str) -> bytes:
        status, _, body = self._registry.request("GET", f"/v2/{self.name}/blobs/{digest}")
        assert status == 200, body
        return body

    def _get(self, tag: str) -> tuple[str, bytes]:
        path = f"/v2/{self.name}/manifests/{tag}"
        headers = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}, */*"}
        status, fields, body = self._registry.request("GET", path, headers=headers)
        assert status == 200, body
        return fields["docker-content-digest"], body


class LayoutOne(Repository):
    """A local layout."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "oci-layout").exists():
            create_layout(path)
        self.source = f"oci:{path}"
        self.begin = ""

    def draft(self, mount: Path, tag: str) -> Path:
        return mount / tag

    def tags(self) -> Mapping[str, str]:
        index = json.loads((self.path / "index.json").read_bytes())
        named = [entry for entry in index["manifests"] or () if "annotations" in entry]
        return {
            entry["annotations"][_REF_NAME]: entry["digest"]
            for entry in named
            if _REF_NAME in entry["annotations"]
        }

    def manifest(self, tag: str) -> bytes:
        return self.blob(self.tags()[tag])

    def blob(self, digest: str) -> bytes:
        algorithm, _, name = digest.partition(":")
        return (self.path / "blobs" / algorithm / name).read_bytes()


def written(front: Front) -> list[tuple[str, str]]:
    """Return the requests that were to change something."""
    return [each for each in front.requests if each[0] not in _READING]
