"""Known hosts: names from credential files, and never a secret."""

import json
import logging
from pathlib import Path

from orasfs.daemon.knownhosts import known_hosts
from tests.conftest import ExpectLog


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))


def test_hosts_of_all_files_are_known_once_and_sorted(tmp_path: Path) -> None:
    write(
        tmp_path / ".docker/config.json",
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": "c2VjcmV0"},
                "GHCR.io": {},
                "registry.example:5000/team": {},
                "not a host": {},
            },
            "credHelpers": {"ghcr.io": "x", "quay.io": "y"},
        },
    )
    write(tmp_path / "run/containers/auth.json", {"auths": {"localhost:5000": {}}})
    write(tmp_path / ".config/containers/auth.json", {"auths": {"quay.io/org": {}}})
    hosts = known_hosts((), {"XDG_RUNTIME_DIR": str(tmp_path / "run")}, tmp_path)
    assert hosts == ("docker.io", "ghcr.io", "localhost:5000", "quay.io", "registry.example:5000")


def test_docker_config_names_another_directory(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/config.json", {"auths": {"a.example": {}}})
    write(tmp_path / ".docker/config.json", {"auths": {"b.example": {}}})
    environ = {"DOCKER_CONFIG": str(tmp_path / "elsewhere")}
    assert known_hosts((), environ, tmp_path) == ("a.example",)


def test_without_files_nothing_is_known(tmp_path: Path) -> None:
    assert known_hosts((), {}, tmp_path) == ()


def test_a_damaged_file_is_a_warning_without_its_content(
    tmp_path: Path, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, r"credential file not read path=.* error=JSONDecodeError$")
    write(tmp_path / ".docker/config.json", '{"auths": {"h": {"auth": "c2VjcmV0"')
    assert known_hosts((), {}, tmp_path) == ()


def test_other_shapes_name_no_host(tmp_path: Path) -> None:
    write(tmp_path / ".docker/config.json", ["auths"])
    write(tmp_path / ".config/containers/auth.json", {"auths": ["a.example"], "credHelpers": 1})
    assert known_hosts((), {}, tmp_path) == ()
