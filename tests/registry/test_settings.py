from importlib import metadata

import pytest

from orasfs.registry.settings import RegistrySettings, default_user_agent


def test_user_agent_names_program_and_version() -> None:
    program, _, version = RegistrySettings().user_agent.partition("/")
    assert program == "orasfs"
    assert version


def test_source_tree_that_is_not_installed_has_a_user_agent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert default_user_agent() == "orasfs/0"
