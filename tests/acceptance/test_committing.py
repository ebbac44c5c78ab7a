"""Drafts with the golden inputs, committed to real targets: the reference client's digests, and
trees that other clients restore.
"""

import hashlib
import json
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from orasfs.errors import TagMoved
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.oci.storage import Target
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.settings import RegistrySettings
from orasfs.staging.committer import Committer
from orasfs.staging.contents import LocalBlob
from orasfs.staging.draft import ANNOTATIONS, CONFIG, METADATA, TREE, Draft
from orasfs.staging.draftrecord import DraftKey
from orasfs.staging.drafts import DraftStore
from orasfs.staging.order import Order, make_order
from orasfs.staging.pack import PackSettings
from orasfs.store.adopt import adopt
from orasfs.store.content.cas import ContentStore
from orasfs.store.layoutwriter import LayoutTarget, create_layout
from tests.support.docker_registry import DockerRegistry
from tests.support.golden import GOLDEN, golden_tags
from tests.support.goldendrafts import PACKED, RAW, Wanted
from tests.support.mounted import run
from tests.support.staged import GOLDEN_CREATED, golden_inputs

REPOSITORY = "golden/artifacts"


class _Keeper:
    def __init__(self, root: Path) -> None:
        self.store = ContentStore(root)

    def keep(self, registry: str, blob: LocalBlob) -> None:
        adopt(self.store, blob.descriptor, blob.content)

    def note_tag(self, registry: str, repository: str, tag: str, descriptor: Descriptor) -> None:
        pass


async def _prepare(draft: Draft) -> Order:
    await trio.lowlevel.checkpoint()
    return make_order(draft, PackSettings())


class Place:
    """A registry or a layout that drafts are committed to."""

    def __init__(
        self, root: Path, registry: str, repository: str, target: Callable[[str, str], Target]
    ) -> None:
        self.root = root
        self.registry = registry
        self.repository = repository
        self.target = target(registry, repository)
        self.store = DraftStore(root / "state")
        self.keeper = _Keeper(root / "cache")
        self.committer = Committer(target, _prepare, self.keeper, lambda: GOLDEN_CREATED)

    def skopeo_source(self, tag: str) -> str:
        if self.registry.startswith("oci:"):
            return f"{self.registry}:{tag}"
        return f"docker://{self.registry}/{self.repository}:{tag}"

    def draft(self, tag: str, wanted: Wanted) -> Draft:
        draft = self.store.create(DraftKey(self.registry, self.repository, tag, colon=True))
        tree = draft.directory / TREE
        tree.rmdir()
        golden_inputs(tree, *wanted.names)
        for name, value in wanted.top.items():
            draft.tree.set_attribute(draft.tree.top, f"user.oras.{name}", value.encode())
        for name, value in wanted.media_types.items():
            found = draft.tree.find(draft.tree.top, name)
            assert found is not None
            draft.tree.set_attribute(found, "user.oras.mediatype", value.encode())
        metadata = draft.directory / METADATA
        if wanted.config:
            (metadata / CONFIG).write_bytes((GOLDEN / "inputs/config.json").read_bytes())
        if wanted.annotations:
            annotations = (GOLDEN / "inputs/annotations.json").read_bytes()
            (metadata / ANNOTATIONS).write_bytes(annotations)
        return draft

    async def manifest(self, tag: str) -> Manifest:
        descriptor = await self.target.resolve(tag)
        parsed = parse_document(await self.target.fetch_manifest(descriptor))
        assert isinstance(parsed, Manifest)
        return parsed


@pytest.fixture(scope="module")
def server() -> Iterator[DockerRegistry]:
    with DockerRegistry() as registry:
        yield registry


@asynccontextmanager
async def _opened(root: Path, server: DockerRegistry | None) -> AsyncIterator[Place]:
    if server is None:
        layout = root / "layout"
        create_layout(layout)
        place = Place(root, f"oci:{layout}", "", lambda _host, _name: LayoutTarget(layout))
        yield place
        place.store.close()
        return
    client = RemoteRegistry(server.host, RegistrySettings(plain_http=True))
    name = f"{REPOSITORY}/{hashlib.sha256(str(root).encode()).hexdigest()[:12]}"
    place = Place(root, server.host, name, lambda _host, name: client.repository(name))
    try:
        yield place
    finally:
        place.store.close()
        with trio.move_on_after(5, shield=True):
            await client.aclose()


@pytest.fixture(params=["oci", pytest.param("registry", marks=pytest.mark.registry)])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    server = None if request.param == "oci" else request.getfixturevalue("server")
    async with _opened(tmp_path, server) as opened:
        yield opened


@pytest.mark.parametrize("tag", RAW)
async def test_raw_files_give_the_golden_digest(tag: str, place: Place) -> None:
    descriptor = await place.committer.commit(place.draft(tag, RAW[tag]))
    assert descriptor is not None
    assert descriptor.digest == golden_tags()[tag].digest
    assert (await place.target.resolve(tag)).digest == descriptor.digest
    assert place.keeper.store.has(descriptor)


@pytest.mark.parametrize("tag", PACKED)
async def test_packed_directories_give_the_golden_content(tag: str, place: Place) -> None:
    await place.committer.commit(place.draft(tag, PACKED[tag]))
    made = await place.manifest(tag)
    golden = parse_document(golden_tags()[tag].raw)
    assert isinstance(golden, Manifest)
    assert [layer.annotations for layer in made.layers] == [
        layer.annotations for layer in golden.layers
    ]
    assert [layer.media_type for layer in made.layers] == [
        layer.media_type for layer in golden.layers
    ]


async def test_skopeo_copies_what_was_committed(place: Place, tmp_path: Path) -> None:
    await place.committer.commit(place.draft("v1", PACKED["multi"]))
    out = tmp_path / "copied"
    run(
        ["skopeo", "copy", "--src-tls-verify=false", place.skopeo_source("v1"), f"dir:{out}"],
        timeout=60,
    )
    raw = (out / "manifest.json").read_bytes()
    for layer in json.loads(raw)["layers"]:
        name = layer["digest"].removeprefix("sha256:")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == name


_PULL = """
import sys, warnings
warnings.simplefilter("ignore")
import oras.client
reference, out = sys.argv[1:]
client = oras.client.OrasClient(hostname=reference.partition("/")[0], insecure=True)
client.pull(target=reference, outdir=out)
"""


@pytest.mark.registry
async def test_an_independent_client_restores_the_tree(
    server: DockerRegistry, tmp_path: Path
) -> None:
    async with _opened(tmp_path, server) as place:
        draft = place.draft("v1", Wanted(("artifact.txt", "nested", "docs")))
        await place.committer.commit(draft)
        out = tmp_path / "pulled"
        out.mkdir()
        reference = f"{place.registry}/{place.repository}:v1"
        run([sys.executable, "-c", _PULL, reference, out], timeout=60)
        assert _listing(out) == _listing(draft.directory / TREE)


def _listing(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in root.rglob("*"):
        status = path.lstat()
        facts: tuple[object, ...] = (stat.S_IFMT(status.st_mode),)
        if path.is_symlink():
            facts += (str(path.readlink()),)
        elif path.is_file():
            facts += (path.read_bytes(), int(status.st_mtime) if "/docs/" in str(path) else 0)
        found[str(path.relative_to(root))] = facts
    return found


async def test_a_second_commit_on_one_base_is_told_that_the_tag_moved(
    place: Place, expect_log: Callable[[int, str], None]
) -> None:
    expect_log(30, "commit failed")
    first = await place.committer.commit(place.draft("v1", RAW["untyped"]))
    assert first is not None
    one = place.store.create(DraftKey(place.registry, place.repository, "v1"), None, first.digest)
    (one.directory / TREE / "one").write_bytes(b"one")
    moved = await place.committer.commit(one)
    assert moved is not None
    key = DraftKey(place.registry, place.repository, ":v1")
    two = place.store.create(key, None, first.digest)
    (two.directory / TREE / "two").write_bytes(b"two")
    with pytest.raises(TagMoved):
        await place.committer.commit(two)
    assert (await place.target.resolve("v1")).digest == moved.digest
    assert (two.directory / TREE / "two").read_bytes() == b"two"


@pytest.mark.slow
async def test_many_files_in_one_directory_arrive(place: Place) -> None:
    draft = place.store.create(DraftKey(place.registry, place.repository, "v1", colon=True))
    for number in range(2000):
        path = draft.directory / TREE / f"site/{number % 20}/{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
    with trio.fail_after(60):
        await place.committer.commit(draft)
    (layer,) = (await place.manifest("v1")).layers
    assert layer.is_packed_directory
    assert layer.size == place.keeper.store.size_of(layer.digest)
