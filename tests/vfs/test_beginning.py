"""Where there is nothing yet: a mount of a new repository, and a way to one below another."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from orasfs.errors import ConnectionRefused
from orasfs.vfs.root import NamespaceRoot, RegistryRoot, RootSpecification
from tests.fakes.repositories import FakeRegistries
from tests.support.drafting import drafts_at
from tests.support.walking import HOST, Walker, mounted

Mount = Callable[[RootSpecification], AbstractAsyncContextManager[Walker]]


@pytest.fixture
def registries() -> FakeRegistries:
    registries = FakeRegistries()
    repository = registries.add(HOST).add("team/site")
    repository.push(repository.layer(b"one", "index.html"), tag="v1")
    return registries


@pytest.fixture
def mount(registries: FakeRegistries, tmp_path: Path) -> Mount:
    @asynccontextmanager
    async def make(root: RootSpecification) -> AsyncIterator[Walker]:
        with drafts_at(tmp_path) as drafts:
            async with mounted(registries, root, drafts=drafts) as walker:
                yield walker

    return make


async def mkdir(walker: Walker, path: str) -> None:
    """Make a directory as the kernel does, which looks first."""
    parent, _, name = path.rpartition("/")
    above = (await walker.stat(parent)).ino
    if (await walker.filesystem.lookup(above, name)).attr is not None:
        raise FileExistsError(path)
    await walker.filesystem.mkdir(above, name, 0o755)


async def is_draft(walker: Walker, path: str) -> bool:
    return (await walker.xattr(path, "user.oras.state")) == "draft"


def keys(walker: Walker) -> list[str]:
    drafts = walker.filesystem._mount.drafts
    assert drafts is not None
    return sorted(str(draft.key) for draft in drafts.store.drafts())


@pytest.mark.parametrize("tag", ["v1", "v1.0", "V1", ":v1", ".new"])
async def test_a_mount_of_what_is_nothing_is_a_new_repository(mount: Mount, tag: str) -> None:
    async with mount(NamespaceRoot(HOST, "new/repo")) as walker:
        await mkdir(walker, tag)
        assert await is_draft(walker, tag)
        assert keys(walker) == [f"{HOST}/new/repo/{tag}"]
        await mkdir(walker, "another")
        assert await is_draft(walker, "another")
        assert await walker.ls() == sorted([tag, "another"])
    async with mount(RegistryRoot(HOST)) as walker:
        assert await is_draft(walker, f"new/repo/{tag}")


@pytest.mark.parametrize("tag", ["v1.0", ":v1"])
async def test_so_is_one_of_one_component_but_for_names_that_may_be_namespaces(
    mount: Mount, tag: str
) -> None:
    async with mount(NamespaceRoot(HOST, "new")) as walker:
        await mkdir(walker, tag)
        assert keys(walker) == [f"{HOST}/new/{tag}"]
        with pytest.raises(FileExistsError):
            await mkdir(walker, "v1")


async def test_a_mount_with_a_repository_below_is_a_namespace(
    mount: Mount, registries: FakeRegistries
) -> None:
    registries.add(HOST).add("top/team/site").push(tag="v1")
    async with mount(NamespaceRoot(HOST, "top/team")) as walker:
        await mkdir(walker, "my.space")
        with pytest.raises(FileExistsError):
            await mkdir(walker, "v1")
        assert keys(walker) == []


async def test_what_was_begun_below_makes_it_a_namespace(mount: Mount) -> None:
    async with mount(NamespaceRoot(HOST, "new/team")) as walker:
        await mkdir(walker, "site:v1")
        await mkdir(walker, "my.space")
        assert keys(walker) == [f"{HOST}/new/team/site:v1"]
        await mkdir(walker, "my.space/site:v1")


async def test_a_registry_that_is_away_lets_nobody_guess(
    mount: Mount, registries: FakeRegistries
) -> None:
    registries.add(HOST).add("new/repo").failure = ConnectionRefused("away")
    async with mount(NamespaceRoot(HOST, "new/repo")) as walker:
        with pytest.raises(ConnectionRefused):
            await mkdir(walker, "v1.0")
        assert keys(walker) == []


async def test_a_directory_that_is_no_root_is_a_namespace(mount: Mount) -> None:
    async with mount(RegistryRoot(HOST)) as walker:
        await mkdir(walker, "new/my.space")
        assert keys(walker) == []


async def test_an_empty_draft_gives_way_to_a_repository_below(mount: Mount) -> None:
    """As in `mkdir -p team/site/new/deep:v1`."""
    async with mount(RegistryRoot(HOST)) as walker:
        await mkdir(walker, "team/site/new")
        assert await is_draft(walker, "team/site/new")
        before = (await walker.stat("team/site/new")).ino
        await mkdir(walker, "team/site/new/deep:v1")
        assert keys(walker) == [f"{HOST}/team/site/new/deep:v1"]
        assert (await walker.stat("team/site/new")).ino == before
        assert await walker.ls("team/site/new") == ["deep:v1"]
        assert "new" in await walker.ls("team/site")
        await mkdir(walker, "team/site/new/other:v1")
    async with mount(RegistryRoot(HOST)) as walker:
        assert await is_draft(walker, "team/site/new/deep:v1")


@pytest.mark.parametrize(
    "draft", ["team/site/v2.0", "team/site:v2", "team/site/:v2", "team/site/.new"]
)
async def test_what_can_be_no_namespace_gives_no_way(mount: Mount, draft: str) -> None:
    async with mount(RegistryRoot(HOST)) as walker:
        await mkdir(walker, draft)
        await mkdir(walker, f"{draft}/deep:v1")
        assert keys(walker) == [f"{HOST}/{draft}"]
        assert await walker.ls(draft) == ["deep:v1"]


@pytest.mark.parametrize("what", ["content", "setting", "annotations", "name", "digest"])
async def test_a_draft_that_is_one_gives_no_way(mount: Mount, what: str) -> None:
    async with mount(RegistryRoot(HOST)) as walker:
        await mkdir(walker, "team/site/new")
        top = (await walker.stat("team/site/new")).ino
        name = "deep:v1"
        if what == "content":
            await mkdir(walker, "team/site/new/docs")
        elif what == "setting":
            await walker.filesystem.setxattr(top, "user.oras.epoch", b"1")
        elif what == "annotations":
            metadata = (await walker.stat("team/site/new/.oras")).ino
            _, opened = await walker.filesystem.create(metadata, "config", 0o644, 1)
            walker.filesystem.release(opened.fh)
        elif what == "name":
            name = "Deep:v1"
        else:
            name = f"deep@sha256:{'0' * 64}"
        await mkdir(walker, f"team/site/new/{name}")
        assert keys(walker) == [f"{HOST}/team/site/new"]
        assert name in await walker.ls("team/site/new")
