"""What cases work with: a directory, a registry, published data, and mounts.

Owns everything that must be cleaned up. Data is made and published once, by the first case that
needs it.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.benchmarks.data import Blob, Packed, write_model, write_tree
from scripts.benchmarks.link import Link
from scripts.benchmarks.mount import LOG_NAME, Mount
from scripts.benchmarks.processes import ProgramFailed, run, timed
from scripts.benchmarks.publish import Published, publish_file, publish_packed
from scripts.benchmarks.shaping import Shape
from tests.support.docker_registry import DockerRegistry
from tests.support.reference import CLIENTS, Oras, ReferenceClient

MODEL_TITLE = "model.safetensors"
TREE_TITLE = "usr"
PACK_TITLE = "data"
PACK_SCALE = 5.5
_MOUNT = "mount"


def daemon_log(directory: Path) -> str:
    """Return what the daemons of a lab in `directory` have said, "" if there were none."""
    path = directory / _MOUNT / LOG_NAME
    return path.read_text(errors="replace") if path.exists() else ""


class Lab:
    """A context manager: leaving it unmounts, ends the registry and removes the data.

    Attributes:
        directory: where everything is, on one filesystem: a cache is as fast as a rival's file.
        model_mebibytes: the size of the large file.
        tree_files: how many files the tree has.
        many_files: how many files are in the largest directory.
    """

    def __init__(
        self,
        directory: Path,
        model_mebibytes: int,
        tree_files: int,
        mount_options: Sequence[str] = (),
        many_files: int = 1_000_000,
    ) -> None:
        self.directory = directory
        self.model_mebibytes = model_mebibytes
        self.tree_files = tree_files
        self.many_files = many_files
        self._mount_options = mount_options
        self._registry: DockerRegistry | None = None
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    @property
    def registry(self) -> DockerRegistry:
        """The registry; the first use starts it."""
        if self._registry is None:
            registry = DockerRegistry(self.directory / "registry")
            try:
                registry.start()
            except RuntimeError as error:
                raise ProgramFailed(str(error)) from error
            self._cleanup.callback(registry.stop)
            self._registry = registry
        return self._registry

    @cached_property
    def model(self) -> Blob:
        """The large file on local disk."""
        return write_model(self.directory / MODEL_TITLE, self.model_mebibytes << 20)

    @cached_property
    def published_model(self) -> Published:
        """The same in the registry, as a raw layer titled `MODEL_TITLE`."""
        return publish_file(self.registry, "bench/model", "v1", MODEL_TITLE, self.model)

    @cached_property
    def tree(self) -> Packed:
        """The tree on local disk."""
        return write_tree(self.directory / "tree", TREE_TITLE, self.tree_files)

    @cached_property
    def published_tree(self) -> Published:
        """The same in the registry, as a packed directory titled `TREE_TITLE`."""
        return publish_packed(self.registry, "bench/tree", "v1", self.tree)

    @cached_property
    def pack(self) -> Packed:
        """A tree of larger files on local disk: half a gigabyte at 20,000 files."""
        parent = self.directory / "pack"
        return write_tree(parent, PACK_TITLE, self.tree_files, seed=3, scale=PACK_SCALE)

    @cached_property
    def published_pack(self) -> Published:
        """The same in the registry, as a packed directory titled `PACK_TITLE`."""
        return publish_packed(self.registry, "bench/pack", "v1", self.pack)

    def link(self, shape: Shape) -> Link:
        """Lay a way to the registry that is counted, and has that shape."""
        link = Link(self.registry.port, shape)
        self._cleanup.callback(link.close)
        return link

    def warm_model(self) -> None:
        """Have the large file in the registry's memory."""
        run(["curl", "-sSf", "-o", "/dev/null", self._model_url()])

    @cached_property
    def client(self) -> ReferenceClient | None:
        """The reference client, if there is one; its library is built if only that is there."""
        found = (find(self.fresh_directory("client")) for find in CLIENTS.values())
        return next((client for client in found if not isinstance(client, str)), None)

    @property
    def has_command(self) -> bool:
        """Whether the reference client is the command itself, which needs no stand-in."""
        return isinstance(self.client, Oras)

    def pull(self, place: Published, directory: Path) -> float:
        """Restore what is published by the reference client; return the seconds."""
        if self.client is None:
            raise AssertionError("there is no reference client")
        return timed(self.client.pull(place.reference, directory))

    def pull_model(self, path: Path) -> float:
        """Download the large file as the reference client does, which verifies it.

        Returns:
            How many seconds that took.
        """
        if self.has_command:
            return self.pull(self.published_model, path.parent)
        # sha256sum of coreutils 9.1 takes three times as long where the processor has SHA-NI.
        hashed = "openssl dgst -sha256 -r" if shutil.which("openssl") else "sha256sum"
        script = f'curl -sSf "$1" | tee "$2" | {hashed}'
        return timed(["sh", "-c", script, "sh", self._model_url(), path])

    def _model_url(self) -> str:
        return self.published_model.blob_url(self.model.digest)

    def mount(self, place: Published, cache: Path, *options: str) -> Mount:
        """Mount the registry of what is published, with that cache; at most one at a time."""
        chosen = (*self._mount_options, *options)
        mount = Mount(place.host, self.directory / _MOUNT, cache, *chosen)
        self._cleanup.callback(mount.stop)
        return mount

    def fresh_directory(self, name: str) -> Path:
        """Return an empty directory of that name, whatever was in it before."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path
