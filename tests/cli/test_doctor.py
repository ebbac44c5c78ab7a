"""What doctor finds, from files and programs that a test can lay out."""

import os
from pathlib import Path

import pytest

from orasfs.cli import doctor


def program(directory: Path, name: str, says: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("says", "level", "words"),
    [
        ("sync (GNU coreutils) 9.1", "ok", "GNU"),
        ("sync (uutils coreutils) 0.2", "warn", "uutils"),
        ("sync 1.0", "warn", "an unknown kind"),
    ],
)
def test_the_kind_of_sync_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, level: str, words: str
) -> None:
    program(tmp_path, "sync", says)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    finding = doctor.check_sync()
    assert finding.level == level
    assert words in finding.sentence


def test_busybox_is_known_by_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "busybox", "")
    (tmp_path / "sync").symlink_to("busybox")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_sync().sentence.startswith("BusyBox")


@pytest.mark.parametrize(
    ("conf", "level"),
    [
        ('PRUNEFS="NFS nfs fuse.orasfs"\n', "ok"),
        ('PRUNE_BIND_MOUNTS="yes"\nPRUNEFS = "NFS"\n', "warn"),
        ("", "warn"),
    ],
)
def test_updatedb_should_leave_mounts_alone(tmp_path: Path, conf: str, level: str) -> None:
    path = tmp_path / "updatedb.conf"
    path.write_text(conf)
    assert doctor.check_updatedb(path).level == level


def test_without_updatedb_nothing_is_to_mend(tmp_path: Path) -> None:
    assert doctor.check_updatedb(tmp_path / "missing").level == "ok"


def test_a_cache_that_cannot_be_a_directory_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ORAS_CACHE", str(tmp_path / "file/cache"))
    assert doctor.check_cache().level == "FAIL"
    monkeypatch.setenv("ORAS_CACHE", str(tmp_path / "new/cache"))
    assert doctor.check_cache().level in {"ok", "warn"}


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        (None, "ok", "as anybody"),
        ('{"auths": {}}', "ok", "config.json"),
        ("{", "FAIL", "not valid JSON"),
        ('{"credsStore": "missing"}', "FAIL", "docker-credential-missing"),
        ('{"credHelpers": {"h": "there"}}', "ok", "config.json"),
    ],
)
def test_credential_files_and_their_helpers_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, level: str, words: str
) -> None:
    program(tmp_path, "docker-credential-there", "")
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    finding = doctor.check_credentials()
    assert finding.level == level
    assert words in finding.sentence


def test_without_files_registries_have_no_mirrors(tmp_path: Path) -> None:
    finding = doctor.check_mirrors([tmp_path / "missing"])
    assert (finding.level, finding.sentence.partition(":")[0]) == ("ok", "no hosts.toml")


def test_files_that_name_mirrors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "_default/hosts.toml"
    for name in ("registry.example_5000_", "registry.example:5000", "_default"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "hosts.toml"
        path.write_text('[host."https://mirror.example"]\ncapabilities = ["pull"]\n')
        finding = doctor.check_mirrors([tmp_path])
        assert finding.level == "ok"
        assert str(path) in finding.sentence
    path.write_text("server = 5")
    finding = doctor.check_mirrors([tmp_path])
    assert (finding.level, finding.sentence) == (
        "FAIL",
        f'not used: {path}: server: expected an address, as "https://registry.example"',
    )
    path.write_text('[host."https://mirror.example"]\nca = "missing.crt"\n')
    finding = doctor.check_mirrors([tmp_path])
    assert (
        finding.sentence == f"not used: {tmp_path}/_default/missing.crt: No such file or directory"
    )
