"""SIGKILL at random moments while somebody writes and commits, again and again.

One round: a daemon is mounted, a writer in a process of its own writes files, fsyncs some, tells
which, and commits; the daemon is killed at a moment nobody chose; it is mounted again, and what
the writer was promised is looked for.
"""

import json
import random
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tests.support.gestures import Repository, commit
from tests.support.mounted import Mounted, run

COMMITTING_SHARE = 0.7  # of the kills, that come after the commit began
MOST_SECONDS = 0.5

# Prints a line for each promise: a file that was fsynced with all its names, or a tag that was
# pushed. What is promised is what a successful system call promises, no less and no more.
_WRITER = """
import hashlib, os, random, sys
draft, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
def say(*words):
    print(*words, flush=True)
def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
os.makedirs(draft, exist_ok=True)
os.makedirs(draft + "/sub", exist_ok=True)
sync(draft + "/sub")
for number in range(chance.randrange(5, 40)):
    name = "sub/%d-%d" % (seed, number)
    content = chance.randbytes(chance.randrange(1, 200_000))
    with open(draft + "/" + name, "wb") as file:
        for start in range(0, len(content), 30_000):
            file.write(content[start : start + 30_000])
        file.flush()
        if chance.random() < 0.5:
            os.fsync(file.fileno())
            sync(draft + "/sub")
            say("durable", name, hashlib.sha256(content).hexdigest())
say("committing")
sync(draft)
say("pushed", os.getxattr(draft, "user.oras.digest").decode())
"""


@dataclass
class Crashes:
    """Rounds on one repository; each goes on with the draft that the last one left.

    Attributes:
        home: the daemon's.
        repository: what is committed to.
        options: of the mount.
        rounds: how many there were.
        commits: how many of them ended with their tag pushed.
        durable: digests of fsynced files of the draft, by name.
    """

    home: Path
    repository: Repository
    seed: int = 0
    options: tuple[str, ...] = ()
    rounds: int = 0
    commits: int = 0
    durable: dict[str, str] = field(default_factory=dict)

    def run(self, rounds: int) -> None:
        """Do so many rounds, killed while files are written or while they are committed."""
        chance = random.Random(self.seed)  # noqa: S311 - to be repeated, not to be secret
        mounted = Mounted(
            self.repository.source, self.home, "tag_ttl=0", *self.options, may_trace=True
        )
        for _ in range(rounds):
            self.rounds += 1
            before = dict(self.repository.tags())
            mounted.start()
            try:
                draft = self._draft(mounted)
                said = self._kill_while_writing(mounted, draft, chance)
            finally:
                mounted.stop()
            mounted.start()
            try:
                self._look(mounted, before, said)
            finally:
                mounted.stop()
        mounted.start()
        try:
            self._finish(mounted)
        finally:
            mounted.stop()

    @property
    def _tag(self) -> str:
        return f"v{self.commits}"

    def _draft(self, mounted: Mounted) -> Path:
        return self.repository.draft(mounted.path, self._tag)

    def _kill_while_writing(self, mounted: Mounted, draft: Path, chance: random.Random) -> str:
        command = (sys.executable, "-c", _WRITER, str(draft), str(self.rounds))
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as writer:
            assert writer.stdout is not None
            said = ""
            if chance.random() < COMMITTING_SHARE:
                said = _read_until(writer.stdout, "committing")
            with suppress(subprocess.TimeoutExpired):
                writer.wait(chance.uniform(0.0, MOST_SECONDS))
            mounted.kill9()
            return said + writer.communicate(timeout=60)[0]

    def _look(self, mounted: Mounted, before: dict[str, str], said: str) -> None:
        promised = [line.split() for line in said.splitlines()]
        self.durable |= {words[1]: words[2] for words in promised if words[0] == "durable"}
        assert not [*(self.home / ".local/state").glob("orasfs/drafts/*/*/*.layer")], self.seed
        after = dict(self.repository.tags())
        pushed = [words[1] for words in promised if words[0] == "pushed"]
        where = f"seed {self.seed} round {self.rounds}: {mounted.errors()[-3000:]}"
        assert {tag: after.get(tag) for tag in before} == before, where
        new = {digest for tag, digest in after.items() if tag not in before}
        assert len(new) <= 1, where
        assert set(pushed) <= new, where
        if new:
            self._check_tag(mounted)
            self._forget_draft(mounted)
            return
        if self.durable:
            self._check_durable(self._draft(mounted), where)

    def _check_durable(self, top: Path, where: str) -> None:
        found = {}
        for name in self.durable:
            path = top / name
            found[name] = run(["sha256sum", path]).stdout.split()[0] if path.exists() else "gone"
        assert found == self.durable, where

    def _check_tag(self, mounted: Mounted) -> None:
        """Look into the artifact that was pushed, with all its bytes."""
        tag = self.repository.tag(mounted.path, self._tag)
        manifest = json.loads(self.repository.manifest(self._tag))
        assert manifest["layers"]
        self._check_durable(tag, f"seed {self.seed} round {self.rounds}: {tag}")

    def _forget_draft(self, mounted: Mounted) -> None:
        """Begin with another tag. A draft may be left whose commit was not told to be done."""
        draft = self._draft(mounted)
        if draft.exists() and _state(draft) == "draft":
            before = dict(self.repository.tags())
            commit(draft)
            assert dict(self.repository.tags()) == before
        self.commits += 1
        self.durable = {}

    def _finish(self, mounted: Mounted) -> None:
        """Commit what is left after the last crash."""
        draft = self._draft(mounted)
        if draft.exists():
            commit(draft)
            self._check_tag(mounted)


def _read_until(lines: IO[str], last: str) -> str:
    """Return the lines up to one."""
    said = ""
    for line in lines:
        said += line
        if line.startswith(last):
            break
    return said


def _state(path: Path) -> str:
    return run(["getfattr", "--only-values", "-n", "user.oras.state", path]).stdout
