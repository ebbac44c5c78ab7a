"""SIGKILL of the daemon in the middle of a `cp -a` into a draft, and what is there afterwards.

One round: a directory is copied and fsynced, then a large file and many small ones are copied; the
daemon is killed when a chosen part of that is in the draft. It is mounted again, the draft is
compared with what was copied, then committed, as it is or after the copy was finished; and what
was pushed is compared with that, as the repository has it.
"""

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.support.gestures import Repository, commit
from tests.support.mounted import Mounted, run

LARGE = "large.bin"
MANY = "many"
SYNCED = "synced"
LARGE_BYTES = 48 * 1024 * 1024  # followed by early uploads from a third on
MANY_FILES = 400
SMALL_BYTES = 20_000
TRIES = 5  # of a round, until the daemon is killed before `cp` is done
_COPY_SECONDS = 60
_UNPACK = "io.deis.oras.content.unpack"

# Prints what is at each path: a digest, or where a link leads.
_SUMS = """
import hashlib, os, sys
top = sys.argv[1]
for directory, _, names in os.walk(top):
    for name in names:
        path = os.path.join(directory, name)
        if os.path.islink(path):
            found = "link:" + os.readlink(path)
        else:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        print(os.path.relpath(path, top), found)
"""


class Moment(Enum):
    """In the middle of what the daemon is killed."""

    LARGE = LARGE
    MANY = MANY


class Ending(Enum):
    """What becomes of a copy that was interrupted."""

    AS_IT_IS = "it is committed as it is"
    AGAIN = "it is copied once more"
    GO_ON = "what is missing is added at the end"


@dataclass
class KilledCopies:
    """Rounds on one repository, each with a tag of its own.

    Attributes:
        home: the daemon's; what is copied is below it, too.
        repository: what is committed to.
        options: of the mount.
        rounds: how many there were.
    """

    home: Path
    repository: Repository
    options: tuple[str, ...] = ()
    seed: int = 0
    rounds: int = 0
    right: dict[str, str] = field(default_factory=dict)

    @property
    def _source(self) -> Path:
        return self.home / "source"

    @property
    def _state(self) -> Path:
        return self.home / "state/orasfs/drafts"

    @property
    def _where(self) -> str:
        return f"seed {self.seed} round {self.rounds} {self.options}"

    def run(self, rounds: int) -> None:
        """Do so many rounds."""
        chance = random.Random(self.seed)  # noqa: S311 - to be repeated, not to be secret
        self._make_source(chance)
        mounted = Mounted(
            self.repository.source, self.home, "tag_ttl=0", *self.options, may_trace=True,
            environ={"XDG_STATE_HOME": str(self.home / "state")},
        )  # fmt: skip
        for number in range(rounds):
            self.rounds += 1
            moment = list(Moment)[(number + self.seed) % 2]
            tag = f"v{number}"
            self._kill_while_copying(mounted, tag, moment, chance)
            with mounted:
                draft = self.repository.draft(mounted.path, tag)
                broken = self._compare(draft, moment)
                ending = chance.choice([*Ending] if moment is Moment.LARGE else [*Ending][:2])
                self._finish(draft, ending, broken)
                shown = sums(draft)
                assert ending is Ending.AS_IT_IS or shown == self.right, self._where
                commit(draft)
                assert sums(self.repository.tag(mounted.path, tag)) == shown, self._where
                assert self._pushed(tag) == shown, self._where
            self._check_nothing_is_left()

    def _make_source(self, chance: random.Random) -> None:
        for name, count in ((SYNCED, 10), (MANY, MANY_FILES)):
            for number in range(count):
                path = self._source / name / f"{number % 7}" / f"{number:04}"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(chance.randbytes(chance.randrange(1, SMALL_BYTES)))
        (self._source / MANY / "link").symlink_to("0/0000")
        (self._source / LARGE).write_bytes(chance.randbytes(LARGE_BYTES))
        self.right = sums(self._source)

    def _kill_while_copying(
        self, mounted: Mounted, tag: str, moment: Moment, chance: random.Random
    ) -> None:
        for _ in range(TRIES):
            mounted.start()
            try:
                draft = self.repository.draft(mounted.path, tag)
                if draft.exists():
                    run(["rm", "-r", draft])
                draft.parent.mkdir(parents=True, exist_ok=True)
                draft.mkdir()
                if self._kill(mounted, draft, moment, chance.triangular(0.05, 0.8, 0.6)):
                    return
            finally:
                mounted.stop()
        raise AssertionError(f"{self._where}: `cp` was always done before the daemon was killed")

    def _kill(self, mounted: Mounted, draft: Path, moment: Moment, share: float) -> bool:
        """Kill the daemon when a share of something is copied; tell if that was in the middle."""
        run(["cp", "-a", self._source / SYNCED, draft])
        run(["sync", *(draft / SYNCED).rglob("*")])
        (tree,) = [path / "tree" for path in self._state.iterdir() if path.name != "trash"]
        command = ["cp", "-a", *map(str, (self._source / LARGE, self._source / MANY, draft))]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as copying:
            while copying.poll() is None and _share(tree, moment) < share:
                pass
            mounted.kill9()
            said = copying.communicate(timeout=_COPY_SECONDS)[1]
        return "not connected" in said or "abort" in said

    def _compare(self, draft: Path, moment: Moment) -> dict[str, int]:
        """Return the sizes of what is not whole; all that `cp` had closed is."""
        shown = sums(draft)
        assert set(shown) <= set(self.right), self._where
        synced = {name for name in self.right if name.startswith(f"{SYNCED}/")}
        assert synced <= set(shown), self._where
        broken = {name for name, digest in shown.items() if digest != self.right[name]}
        assert len(broken) <= 1, self._where
        assert not broken & synced, self._where
        assert moment is Moment.LARGE or LARGE not in broken, self._where
        sizes = {name: (draft / name).stat().st_size for name in broken}
        for name, size in sizes.items():
            with (self._source / name).open("rb") as file:
                begin = hashlib.sha256(file.read(size)).hexdigest()
            assert begin == shown[name], f"{self._where}: {name} is no beginning of what it was"
        return sizes

    def _finish(self, draft: Path, ending: Ending, broken: dict[str, int]) -> None:
        sources = [self._source / name for name in (LARGE, MANY)]
        match ending:
            case Ending.AS_IT_IS:
                return
            case Ending.AGAIN:
                run(["cp", "-a", *sources, draft])
            case Ending.GO_ON:
                for name, size in broken.items():
                    words = 'tail -c "+$1" "$2" >> "$3"'
                    paths = [self._source / name, draft / name]
                    run(["sh", "-c", words, "sh", str(size + 1), *paths])
                run(["cp", "-a", self._source / MANY, draft])

    def _pushed(self, tag: str) -> dict[str, str]:
        """Return what is in the repository, as somebody would find it who has only that."""
        found: dict[str, str] = {}
        for layer in json.loads(self.repository.manifest(tag))["layers"]:
            content = self.repository.blob(layer["digest"])
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == layer["digest"]
            notes = layer["annotations"]
            if _UNPACK in notes:
                found |= _unpacked(content)
            else:
                found[notes["org.opencontainers.image.title"]] = hashlib.sha256(
                    content
                ).hexdigest()
        return found

    def _check_nothing_is_left(self) -> None:
        """Look at the disk when nothing is mounted: neither drafts nor parts of anything."""
        left = [str(path.relative_to(self._state)) for path in self._state.rglob("*")]
        assert left == ["trash"], self._where
        partial = [path.name for path in (self.home / "cache/orasfs/ingest").rglob("*")]
        assert partial == [], self._where


def sums(top: Path) -> dict[str, str]:
    """Return the digest of each file and the target of each link, by path."""
    done = run([sys.executable, "-I", "-S", "-c", _SUMS, top], timeout=120)
    return dict(line.split() for line in done.stdout.splitlines())


def _share(tree: Path, moment: Moment) -> float:
    """Return how much of something is in a draft; looks at the disk, not at the mount."""
    try:
        if moment is Moment.LARGE:
            return (tree / LARGE).stat().st_size / LARGE_BYTES
        return sum(len(names) for _, _, names in os.walk(tree / MANY)) / MANY_FILES
    except FileNotFoundError:
        return 0.0


def _unpacked(content: bytes) -> dict[str, str]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            if member.issym():
                found[member.name] = f"link:{member.linkname}"
            elif (file := tar.extractfile(member)) is not None:
                found[member.name] = hashlib.sha256(file.read()).hexdigest()
    return found
