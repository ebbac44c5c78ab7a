"""`.oras`, `.orasfs` and extended attributes."""

import json
import os

import pytest
import trio
from trio.testing import MockClock

from orasfs.errors import NoAttribute, TimedOut, Unsupported
from orasfs.oci.digest import Digest
from orasfs.vfs.options import FilesystemOptions
from tests.fakes.repositories import FakeRegistries, FakeRepository, tar_of
from tests.support.walking import HOST, mounted

TITLE = "org.opencontainers.image.title"


@pytest.fixture
def registries() -> FakeRegistries:
    return FakeRegistries()


@pytest.fixture
def repository(registries: FakeRegistries) -> FakeRepository:
    return registries.add(HOST).add("team/hello")


async def test_the_metadata_directory_resolves_and_is_not_listed(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    config = {"mediaType": "application/vnd.c", "digest": str(repository.blob(b"cfg")), "size": 3}
    layer = repository.layer(b"x", "x", key="value")
    pushed = repository.push(
        layer, repository.layer(b"untitled"), tag="v1", config=config, annotations={"m": "1"}
    )
    top = "team/hello/v1/.oras"
    async with mounted(registries) as mount:
        assert await mount.ls("team/hello/v1") == ["x"]
        assert await mount.ls(top) == [
            "annotations.json",
            "blobs",
            "config",
            "descriptor.json",
            "error",
            "manifest.json",
            "reference",
            "referrers",
        ]
        assert Digest.of(await mount.read(f"{top}/manifest.json")) == pushed.digest
        assert await mount.read(f"{top}/config") == b"cfg"
        assert await mount.text(f"{top}/reference") == f"{HOST}/team/hello:v1@{pushed.digest}\n"
        assert json.loads(await mount.read(f"{top}/annotations.json")) == {
            "$manifest": {"m": "1"},
            "x": {"key": "value"},
        }
        descriptor = json.loads(await mount.read(f"{top}/descriptor.json"))
        assert descriptor == {
            "annotations": {"m": "1"},
            "artifactType": "application/vnd.test.artifact",
            "digest": str(pushed.digest),
            "mediaType": pushed.media_type,
            "size": pushed.size,
        }
        blobs = await mount.ls(f"{top}/blobs/sha256")
        assert blobs == sorted(Digest.of(blob).hex for blob in (b"x", b"untitled", b"cfg"))
        untitled = Digest.of(b"untitled").hex
        assert await mount.read(f"{top}/blobs/sha256/{untitled}") == b"untitled"
        assert await mount.read(f"{top}/error") == b""
        assert not await mount.exists(f"{top}/nope")


async def test_an_own_title_wins_over_the_metadata_directory(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(repository.layer(b"mine", ".oras"), tag="v1")
    async with mounted(registries) as mount:
        assert await mount.text("team/hello/v1/.oras") == "mine"


async def test_referrers_are_artifacts(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    subject = repository.push(tag="v1")
    referrer = repository.push(repository.layer(b"signed", "signature"), subject=subject)
    nested = repository.push(repository.layer(b"n", "n"), subject=referrer)
    path = "team/hello/v1/.oras/referrers"
    async with mounted(registries) as mount:
        assert await mount.ls(path) == ["sha256"]
        assert await mount.ls(f"{path}/sha256") == [referrer.digest.hex]
        path = f"{path}/sha256/{referrer.digest.hex}"
        assert await mount.text(f"{path}/signature") == "signed"
        assert await mount.text(f"{path}/.oras/referrers/sha256/{nested.digest.hex}/n") == "n"
        assert not await mount.exists(f"team/hello/v1/.oras/referrers/sha256/{'0' * 64}")


async def test_any_manifest_is_reached_by_its_digest_without_a_colon(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    pushed = repository.push(repository.layer(b"x", "x"))
    path = "team/hello/.oras/digests/sha256"
    async with mounted(registries) as mount:
        assert await mount.text(f"{path}/{pushed.digest.hex}/x") == "x"
        assert not await mount.exists(f"{path}/{'0' * 64}")
        assert not await mount.exists(f"{path}/short")
        assert await mount.ls(path) == []
        assert await mount.ls("team/hello/.oras") == ["digests", "error"]


async def test_control_files_are_made_at_each_open(registries: FakeRegistries) -> None:
    log = [b"one\n"]
    control = {"log": lambda: b"".join(log), "metrics": lambda: b""}
    async with mounted(registries, control=control) as mount:
        assert ".orasfs" not in await mount.ls()
        assert await mount.ls(".orasfs") == ["log", "metrics"]
        entry = await mount.entry(".orasfs/log")
        assert entry.attr is not None
        assert (entry.attr.size, entry.attr_seconds) == (4, 0)
        opened = await mount.filesystem.open(entry.attr.ino, os.O_RDONLY)
        assert opened.direct_io
        log.append(b"two\n")
        assert mount.filesystem.read_now(opened.fh, 0, 100) == b"one\n"
        assert await mount.read(".orasfs/log") == b"one\ntwo\n"
        assert not await mount.exists("team/.orasfs")


async def test_extended_attributes_of_a_file(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    layer = repository.layer(b"x", "x", key="value")
    pushed = repository.push(layer, tag="v1")
    path = "team/hello/v1/x"
    async with mounted(registries) as mount:
        expected = {
            "digest": str(Digest.of(b"x")),
            "mediatype": "application/vnd.test",
            "size": "1",
            "reference": f"{HOST}/team/hello:v1@{pushed.digest}",
            "state": "committed",
            "verified": "true",
            "annotation.key": "value",
            f"annotation.{TITLE}": "x",
        }
        for name, value in expected.items():
            assert await mount.xattr(path, f"user.oras.{name}") == value
        assert await mount.xattrs(path) == ["user.oras.mediatype", "user.oras.annotation.key"]
        registries.take_calls()
        for name in ("security.capability", "user.other", "user.oras.nope"):
            with pytest.raises(NoAttribute):
                await mount.xattr(path, name)
        ino = (await mount.stat(path)).ino
        with pytest.raises(Unsupported):
            await mount.filesystem.getxattr(ino, "system.posix_acl_access")
        assert registries.calls == []


async def test_extended_attributes_of_a_tag_resolve_it(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    pushed = repository.push(tag="v1", annotations={"key": "value", "ключ": "значение"})
    async with mounted(registries) as mount:
        (listed,) = await mount.entries("team/hello")
        assert listed.entry.attr is not None
        ino = listed.entry.attr.ino
        registries.take_calls()
        with pytest.raises(Unsupported):
            await mount.filesystem.getxattr(ino, "system.posix_acl_default")
        assert await mount.filesystem.listxattr(ino) == ()
        assert registries.calls == []
        digest = await mount.filesystem.getxattr(ino, "user.oras.digest")
        assert digest.decode() == str(pushed.digest)
        assert [call[0] for call in registries.take_calls()] == ["resolve"]
        value = await mount.filesystem.getxattr(ino, "user.oras.annotation.ключ")
        assert value.decode() == "значение"
        kind = await mount.filesystem.getxattr(ino, "user.oras.artifacttype")
        assert kind == b"application/vnd.test.artifact"
        assert await mount.filesystem.listxattr(ino) == [
            "user.oras.mediatype",
            "user.oras.annotation.key",
            "user.oras.annotation.ключ",
        ]


async def test_a_packed_member_tells_its_layer(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    tar = tar_of({"d": None, "d/f": b"f"})
    repository.push(repository.packed(tar, "d"), tag="v1")
    async with mounted(registries) as mount:
        for path in ("team/hello/v1/d", "team/hello/v1/d/f"):
            assert await mount.xattr(path, "user.oras.digest") == str(Digest.of(tar))
            assert await mount.xattr(path, "user.oras.verified") == "true"
            assert await mount.xattrs(path) == ()


async def test_annotations_beyond_what_the_kernel_takes_are_not_listed(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    annotations = {f"{number:05}{'k' * 100}": "v" for number in range(1000)} | {"z" * 300: "v"}
    repository.push(repository.layer(b"x", "x", **annotations), tag="v1")
    async with mounted(registries) as mount:
        names = await mount.xattrs("team/hello/v1/x")
        assert 400 < len(names) < 1000
        assert sum(len(name.encode()) + 1 for name in names) <= 64 * 1024


async def test_an_annotation_longer_than_the_kernel_takes_is_not_listed(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    """`rsync -X` and `mv` fail at a name that is listed and whose value is E2BIG."""
    most = 64 * 1024
    layer = repository.layer(b"x", "x", long="v" * (most + 1), most="v" * most, wide="ü" * most)
    repository.push(layer, tag="v1")
    async with mounted(registries) as mount:
        assert await mount.xattrs("team/hello/v1/x") == [
            "user.oras.mediatype",
            "user.oras.annotation.most",
        ]


async def test_listxattr_of_a_resolved_tag_fetches_its_manifest(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    repository.push(tag="v1", annotations={"key": "value"})
    async with mounted(registries) as mount:
        assert await mount.xattrs("team/hello/v1") == [
            "user.oras.mediatype",
            "user.oras.annotation.key",
        ]


async def test_the_error_of_a_manifest_that_does_not_come_is_told_while_it_does_not_come(
    registries: FakeRegistries, repository: FakeRepository, autojump_clock: MockClock
) -> None:
    repository.push(repository.layer(b"mine", ".oras"), tag="v1")
    async with mounted(registries, options=FilesystemOptions(pin=True)) as mount:
        assert await mount.exists("team/hello/v1")
        repository.gate = trio.Event()
        with pytest.raises(TimedOut):
            await mount.ls("team/hello/v1")
        begun = trio.current_time()
        assert "TimedOut" in await mount.text("team/hello/v1/.oras/error")
        assert trio.current_time() - begun < 5
        assert (await mount.entry("team/hello/v1/.oras")).name_seconds < 10
        repository.gate.set()
        assert await mount.text("team/hello/v1/.oras") == "mine", "an own title wins, once known"


async def test_a_manifest_without_a_config_has_no_config_file(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    child = repository.push(repository.layer(b"x", "x"))
    repository.push_index(child, tag="v1")
    async with mounted(registries) as mount:
        assert "config" not in await mount.ls("team/hello/v1/.oras")
        assert await mount.ls("team/hello/v1/.oras/blobs") == []


async def test_a_large_manifest_does_not_stay_the_answer_of_others(
    registries: FakeRegistries, repository: FakeRepository
) -> None:
    """Many artifacts at once: what falls out of memory is fetched again."""
    for number in range(60):
        filler = {f"k{number}": "v" * 1_000_000}
        repository.push(
            repository.layer(b"%d" % number, "f"), tag=f"t{number}", annotations=filler
        )
    async with mounted(registries) as mount:
        for _ in range(2):
            for number in range(60):
                assert await mount.text(f"team/hello/t{number}/f") == str(number)
