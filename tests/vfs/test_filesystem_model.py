"""Random registries that change, against a simple model of what must be seen.

The model is the registry itself, with a history: what a lookup shows must have been true at some
moment within the time to live, and what it says while the registry is away must be the last
answer. Time moves on a mock clock, and a kernel that caches nothing asks.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from orasfs.errors import ConnectionRefused, NotFound
from orasfs.vfs.options import FilesystemOptions
from tests.fakes.repositories import NO_CATALOG, FakeRegistries
from tests.support.walking import HOST, Walker, mounted

Step = Callable[[Walker], Awaitable[None]]

TTL = 30.0
CATALOG_SECONDS = 60.0
REPOSITORIES = ("a", "a/b", "a/b/c", "team/x")
TAGS = ("b", "v1", "v2", "V3")
ABSENT = None


@dataclass
class History:
    """What a tag was, and from when on: texts, or ABSENT."""

    changes: list[tuple[float, str | None]] = field(default_factory=lambda: [(-1e9, ABSENT)])

    def change(self, now: float, text: str | None) -> None:
        self.changes.append((now, text))

    @property
    def now(self) -> str | None:
        return self.changes[-1][1]

    def since(self, moment: float) -> set[str | None]:
        """Return all that it has been since a moment."""
        ends = [at for at, _ in self.changes[1:]] + [1e9]
        return {text for (_, text), end in zip(self.changes, ends, strict=True) if end >= moment}


def replay(registries: FakeRegistries, steps: list[Step]) -> None:
    """Run all steps on one filesystem, from the beginning, on a clock that jumps."""

    async def main() -> None:
        options = FilesystemOptions(tag_ttl_seconds=TTL)
        async with mounted(registries, options=options) as mount:
            for step in steps:
                await step(mount)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class ChangingRegistry(RuleBasedStateMachine):
    """Collects steps; the whole history runs in one trio run at the end.

    Each step checks by itself, so nothing is lost by running late.
    """

    def __init__(self) -> None:
        super().__init__()
        self.registries = FakeRegistries()
        self.registry = self.registries.add(HOST)
        self.history = {(r, t): History() for r in REPOSITORIES for t in TAGS}
        self.steps: list[Step] = []
        self.serial = 0

    def window(self, repository: str) -> float:
        """Return for how many seconds an old answer may stand for this repository.

        Whether a tag of `a` or the sub-repository `a/b` has a name is a catalog's word, too.
        """
        return TTL + CATALOG_SECONDS if repository.startswith("a/b") else TTL

    def may_be_missing(self, repository: str, now: float) -> bool:
        """Tell whether the repository or one above it had no tags lately, and so no proof."""
        parts = repository.split("/")
        since = now - self.window(repository)
        return any(
            all(ABSENT in self.history[path, tag].since(since) for tag in TAGS)
            for path in ("/".join(parts[: n + 1]) for n in range(len(parts)))
            if path in REPOSITORIES
        )

    def may_be_a_tag(self, repository: str) -> bool:
        """Tell whether the path has ever led to a tag's directory."""
        above, _, name = repository.rpartition("/")
        changes = self.history[above, name].changes if (above, name) in self.history else []
        return any(text is not None for _, text in changes) or repository == "a/b/c"

    repositories = st.sampled_from(REPOSITORIES)
    tags = st.sampled_from(TAGS)

    @rule(repository=repositories, tag=tags)
    def push(self, repository: str, tag: str) -> None:
        async def step(mount: Walker) -> None:
            self.serial += 1
            text = f"{repository}:{tag} {self.serial}"
            target = self.registry.add(repository)
            target.push(target.layer(text.encode(), "text"), tag=tag)
            self.history[repository, tag].change(trio.current_time(), text)

        self.steps.append(step)

    @rule(repository=repositories, tag=tags)
    def delete(self, repository: str, tag: str) -> None:
        async def step(mount: Walker) -> None:
            self.registry.add(repository).tags.pop(tag, None)
            self.history[repository, tag].change(trio.current_time(), ABSENT)

        self.steps.append(step)

    @rule(seconds=st.sampled_from([1.0, 10.0, 29.0, 31.0, 100.0]))
    def wait(self, seconds: float) -> None:
        async def step(mount: Walker) -> None:
            await trio.sleep(seconds)

        self.steps.append(step)

    @rule(is_down=st.booleans())
    def break_or_mend(self, is_down: bool) -> None:  # noqa: FBT001 - hypothesis gives it by name
        async def step(mount: Walker) -> None:
            self.registry.failure = ConnectionRefused("refused") if is_down else None

        self.steps.append(step)

    @rule(has_catalog=st.booleans())
    def show_or_hide_catalog(self, has_catalog: bool) -> None:  # noqa: FBT001 - as above
        async def step(mount: Walker) -> None:
            self.registry.catalog_failure = None if has_catalog else NO_CATALOG

        self.steps.append(step)

    @rule(repository=repositories, tag=tags)
    def read(self, repository: str, tag: str) -> None:
        async def step(mount: Walker) -> None:
            began = trio.current_time()
            try:
                text: str | None = await mount.text(f"{repository}/:{tag}/text")
            except ConnectionRefused:
                assert self.registry.failure is not None
                return
            except NotFound:
                text = ABSENT
                if self.may_be_missing(repository, began):
                    return
            history = self.history[repository, tag]
            if self.registry.failure is None:
                lately = history.since(began - self.window(repository))
                assert text in lately, (text, history.changes)
            else:
                assert text in {each for _, each in history.changes}

        self.steps.append(step)

    @rule(repository=repositories)
    def list_names(self, repository: str) -> None:
        async def step(mount: Walker) -> None:
            try:
                names = await mount.ls(repository)
            except ConnectionRefused:
                assert self.registry.failure is not None
                return
            except NotFound:
                # While the registry is away its last catalog stands, however old it is.
                is_away = self.registry.failure is not None
                assert is_away or self.may_be_missing(repository, trio.current_time())
                return
            assert len(set(names)) == len(names)
            if self.registry.failure is not None or self.may_be_a_tag(repository):
                return
            tags = {t for t in TAGS if self.history[repository, t].now is not None}
            shown = {name.removeprefix(":") for name in names}
            assert tags <= shown
            subs = {
                r.rpartition("/")[2] for r in REPOSITORIES if r.rpartition("/")[0] == repository
            }
            assert shown <= tags | subs

        self.steps.append(step)

    @rule(repository=repositories, tag=tags)
    def look_up_plain(self, repository: str, tag: str) -> None:
        async def step(mount: Walker) -> None:
            began = trio.current_time()
            try:
                exists = await mount.exists(f"{repository}/{tag}")
            except ConnectionRefused:
                assert self.registry.failure is not None
                return
            except NotFound:
                exists = False
            lately = self.history[repository, tag].since(began - self.window(repository))
            if self.registry.failure is None and ABSENT not in lately:
                assert exists or self.may_be_missing(repository, began)

        self.steps.append(step)

    @precondition(lambda self: bool(self.steps))
    @rule()
    def never_valid(self) -> None:
        async def step(mount: Walker) -> None:
            before = len(self.registries.calls)
            assert not await mount.exists(".git")
            assert len(self.registries.calls) == before

        self.steps.append(step)

    def teardown(self) -> None:
        logger = logging.getLogger("orasfs.vfs.tags")
        logger.disabled = True  # tags that keep their last digest, which other tests announce
        try:
            replay(self.registries, self.steps)
        finally:
            logger.disabled = False


TestChangingRegistry = ChangingRegistry.TestCase
TestChangingRegistry.settings = settings(max_examples=150, stateful_step_count=40)
