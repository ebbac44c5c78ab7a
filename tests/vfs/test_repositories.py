"""What is remembered of a registry's paths is bounded by what is used."""

import gc

import pytest
import trio

from orasfs.vfs import repositories
from orasfs.vfs.documents import DocumentCache
from orasfs.vfs.mount import Mount
from orasfs.vfs.namespace import Place
from orasfs.vfs.options import FilesystemOptions
from orasfs.vfs.repositories import RegistryState
from orasfs.vfs.verification import Verification
from tests.fakes.repositories import FakeRegistries
from tests.support.walking import HOST


async def test_paths_that_nothing_uses_are_forgotten(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repositories, "_RECENT_PATHS", 3)
    options = FilesystemOptions()
    mount = Mount(
        options, trio.current_time, nursery, DocumentCache(), Verification(), drafts=None
    )
    state = RegistryState(HOST, FakeRegistries().add(HOST), mount)
    used = state.repository(Place(HOST, "used"))
    for number in range(10):
        state.repository(Place(HOST, f"unused{number}"))
    gc.collect()
    assert state.repository(Place(HOST, "used")) is used
    assert set(state._states) == {"used", "unused8", "unused9"}
