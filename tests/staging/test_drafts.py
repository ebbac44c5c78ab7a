"""Which drafts there are, and that they outlive whoever made them."""

import logging
import os
from pathlib import Path

import pytest

from orasfs.errors import AlreadyExists, Busy
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.staging.draft import ANNOTATIONS, Draft
from orasfs.staging.draftrecord import RECORD, BaseReference, DraftKey
from orasfs.staging.drafts import DraftStore
from orasfs.staging.pack import PackSettings
from orasfs.staging.tree import StagedDirectory, StagedFile, StagedSymlink
from tests.conftest import ExpectLog

KEY = DraftKey("localhost:5000", "team/site", "v1")


def write(draft: Draft, name: str, content: bytes) -> None:
    opened = draft.tree.make_file(draft.tree.top, name, 0o644, os.O_WRONLY)
    opened.write_now(0, content)
    opened.close()


def test_a_draft_is_there_again_with_its_base_and_content(tmp_path: Path) -> None:
    base = BaseReference("h", "r", Descriptor("a/b", Digest.of(b"base"), 4))
    store = DraftStore(tmp_path / "drafts")
    write(store.create(KEY, base, Digest.of(b"old")), "f", b"content")
    store.close()
    found = DraftStore(tmp_path / "drafts").find(KEY)
    assert found is not None
    assert (found.base, found.expected) == (base, Digest.of(b"old"))
    assert found.tree.names(found.tree.top) == ["f"]


def test_a_draft_of_another_process_is_not_shown(tmp_path: Path) -> None:
    first = DraftStore(tmp_path)
    draft = first.create(KEY)
    second = DraftStore(tmp_path)
    assert second.drafts() == []
    assert second.problems() == {draft.id: "in use by another mount"}
    other = second.create(KEY)
    first.close()
    second.close()
    third = DraftStore(tmp_path)
    assert third.find(KEY) is not None
    assert len(third.problems()) == 1
    assert other.id != draft.id


def test_a_draft_that_is_not_ours_is_left_to_whose_it_is(tmp_path: Path) -> None:
    first = DraftStore(tmp_path)
    first.create(KEY)
    first.close()
    other = DraftStore(tmp_path, is_ours=lambda key: key.registry != KEY.registry)
    assert (other.drafts(), other.problems()) == ([], {})
    assert DraftStore(tmp_path, is_ours=lambda _: True).find(KEY) is not None
    other.close()


def test_two_drafts_of_one_name_cannot_be(tmp_path: Path) -> None:
    store = DraftStore(tmp_path)
    store.create(KEY)
    with pytest.raises(AlreadyExists):
        store.create(KEY)


def test_a_damaged_draft_is_reported_and_left_alone(tmp_path: Path, expect_log: ExpectLog) -> None:
    expect_log(logging.WARNING, "draft cannot be shown")
    expect_log(logging.WARNING, "draft cannot be shown")
    store = DraftStore(tmp_path)
    draft = store.create(KEY)
    other = store.create(DraftKey("h", "r", "other"))
    write(draft, "f", b"content")
    store.close()
    (draft.directory / RECORD).write_bytes(b'{"version": 1}')
    (other.directory / RECORD).unlink()
    again = DraftStore(tmp_path)
    assert again.drafts() == []
    assert "damaged" in again.problems()[draft.id]
    assert "No such file" in again.problems()[other.id]
    assert (draft.directory / "tree/f").read_bytes() == b"content"


def test_another_name_is_kept(tmp_path: Path) -> None:
    store = DraftStore(tmp_path)
    draft = store.create(KEY)
    other = DraftKey(KEY.registry, KEY.repository, "caf\udce9")
    store.rename(draft, other)
    store.close()
    again = DraftStore(tmp_path)
    assert [each.key for each in again.drafts()] == [other]
    assert other.tag is None


def test_a_removed_draft_is_gone_and_its_space_too(tmp_path: Path) -> None:
    store = DraftStore(tmp_path)
    draft = store.create(KEY)
    write(draft, "f", b"content")
    store.remove(draft)
    store.empty_trash()
    assert store.find(KEY) is None
    assert DraftStore(tmp_path).drafts() == []
    assert not list(tmp_path.rglob("f"))


def test_what_was_dropped_goes_though_the_trash_is_in_use(tmp_path: Path) -> None:
    """Another mount may be about to move a draft there, so the directory stays the same one."""
    store = DraftStore(tmp_path)
    trash = (tmp_path / "trash").stat().st_ino
    (tmp_path / "trash/left/tree").mkdir(parents=True)
    (tmp_path / "trash/left/tree/f").write_bytes(b"content")
    store.empty_trash()
    assert list((tmp_path / "trash").iterdir()) == []
    assert (tmp_path / "trash").stat().st_ino == trash


@pytest.mark.parametrize("spool", ["spool", "early"])
def test_what_a_killed_process_packed_is_removed_and_no_file_of_the_user(
    tmp_path: Path, spool: str
) -> None:
    store = DraftStore(tmp_path)
    draft = store.create(KEY)
    write(draft, "mine.layer", b"content")
    left = draft.directory / spool / "0123.layer"
    left.parent.mkdir()
    left.write_bytes(b"half a tar")
    other = DraftStore(tmp_path)
    assert left.exists(), "the process that has the draft is at work on it"
    other.close()
    store.close()
    again = DraftStore(tmp_path).find(KEY)
    assert again is not None
    assert not left.exists()
    assert again.tree.names(again.tree.top) == ["mine.layer"]


@pytest.mark.parametrize("made", [(), ("tree",), ("tree", "metadata", "lock", "draft.json.new")])
def test_a_draft_that_was_never_begun_goes_when_nobody_can_be_about_to_begin_it(
    tmp_path: Path, made: tuple[str, ...], expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "draft cannot be shown")
    directory = tmp_path / "0123456789abcdef"
    directory.mkdir()
    for name in made:
        (directory / name).mkdir() if name in {"tree", "metadata"} else (directory / name).touch()
    began = directory.stat().st_mtime
    young = DraftStore(tmp_path, now=lambda: began + 59)
    assert list(young.problems()) == [directory.name]
    assert directory.exists()
    assert DraftStore(tmp_path, now=lambda: began + 61).problems() == {}
    assert not directory.exists()


def test_what_has_lost_its_record_but_not_its_content_is_kept(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "draft cannot be shown")
    store = DraftStore(tmp_path)
    draft = store.create(KEY)
    write(draft, "f", b"content")
    store.close()
    (draft.directory / RECORD).unlink()
    later = draft.directory.stat().st_mtime + 3600
    assert list(DraftStore(tmp_path, now=lambda: later).problems()) == [draft.id]
    assert (draft.directory / "tree/f").read_bytes() == b"content"


def test_nobody_changes_a_draft_that_is_being_committed(tmp_path: Path) -> None:
    draft = DraftStore(tmp_path).create(KEY)
    draft.check_writable()
    draft.is_committing = True
    with pytest.raises(Busy):
        draft.check_writable()


def test_its_content_is_captured_with_links_modes_and_settings(tmp_path: Path) -> None:
    draft = DraftStore(tmp_path).create(KEY)
    tree, top = draft.tree, draft.tree.top
    write(draft, "f", b"content")
    file = tree.find(top, "f")
    assert file is not None
    tree.link(file, top, "g")
    tree.make_symlink(tree.make_directory(top, "d", 0o750), "link", "../f")
    tree.set_attribute(file, "user.oras.mediatype", b"text/plain")
    tree.set_attribute(top, "user.oras.artifacttype", b"a/b")
    opened = draft.metadata.make_file(draft.metadata.top, ANNOTATIONS, 0o644, os.O_WRONLY)
    opened.write_now(0, b'{"f": {"k": "v"}}')
    opened.close()

    captured = draft.capture()
    one, other = captured.tree.entries["f"], captured.tree.entries["g"]
    assert isinstance(one, StagedFile)
    assert isinstance(other, StagedFile)
    assert one.content == other.content
    assert one.size == 7
    directory = captured.tree.entries["d"]
    assert isinstance(directory, StagedDirectory)
    assert directory.mode == 0o750
    assert isinstance(directory.entries["link"], StagedSymlink)
    settings = draft.settings(captured, PackSettings(epoch_seconds=5))
    assert settings.epoch_seconds == 5
    assert settings.media_types == {"f": "text/plain", "g": "text/plain"}
    assert settings.fields.artifact_type == "a/b"
    assert settings.layer_annotations == {"f": {"k": "v"}}
