"""Many processes at once, while tags move, registries restart and the kernel drops its caches."""

import ast
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.fakes.registry import FakeRegistry
from tests.fakes.repositories import UNPACK, tar_of
from tests.support.mounted import Mounted, run
from tests.support.publish import descriptor_of, manifest_of

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

REPOSITORY = "team/app"
FIXED = ("v0", "v1", "v2")
MOVING = ("moving", "other")
SECONDS = 10
WALKERS = 50
STEP_SECONDS = 0.2
MAX_GROWTH_KIB = 60 * 1024

# What each process does until it is told to end; prints what went wrong, counted.
WALKER = r"""
import collections, os, random, select, sys
root, seed = sys.argv[1], int(sys.argv[2])
names, fixed = sys.argv[3].split(","), sys.argv[4].split(",")
random.seed(seed)
wrong = collections.Counter()

def read(path):
    with open(path, "rb") as file:
        return file.read()

def version(content):
    lines = set(content.splitlines())
    return lines.pop() if len(lines) == 1 else b"mixed: %r" % lines

def check_content(top):
    if not version(read(top + "/a.txt")).startswith(b"version "):
        wrong["content"] += 1

def check_walk(top):
    held = os.open(top, os.O_RDONLY)  # one version, even if the tag moves
    found = set()
    for _, _, files, directory in os.fwalk(".", dir_fd=held, onerror=fail):
        for name in files:
            file = os.open(name, os.O_RDONLY, dir_fd=directory)
            found.add(version(os.read(file, 1 << 20)))
            os.close(file)
    os.close(held)
    if len(found) != 1:
        wrong["walk %r" % found] += 1

def check_listing(top):
    if not set(names) <= set(os.listdir(root)):
        wrong["listing"] += 1

def check_attributes(top):
    os.getxattr(top, "user.oras.digest")
    for name in os.listxattr(top + "/a.txt"):
        os.getxattr(top + "/a.txt", name)

def check_absent(top):
    if os.path.lexists(top + "/nope"):
        wrong["nope"] += 1

def check_metadata(top):
    read(top + "/.oras/manifest.json"), read(top + "/.oras/error")

def fail(error):
    raise error

checks = [check for name, check in globals().items() if name.startswith("check_")]
rounds = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    rounds += 1
    check, tag = random.choice(checks), random.choice(names)
    try:
        check(f"{root}/{tag}")
    except ConnectionRefusedError:
        # A tag that has moved since the registry stopped: what is new of it is not in the cache.
        if tag in fixed:
            wrong[f"{check.__name__} {tag} refused"] += 1
    except OSError as error:
        wrong[f"{check.__name__} {tag} {error.strerror}"] += 1
print((rounds, dict(wrong)))
"""


def put(registry: FakeRegistry, tag: str, number: int) -> None:
    """Put an artifact all of whose files say its number."""
    text = b"version %03d\n" % number * 300
    tar = tar_of({f"docs/s{each % 3}/f{each}": text for each in range(30)})
    for content in (b"{}", text, tar):
        registry.put_blob(REPOSITORY, content)
    packed = descriptor_of(
        tar, "application/vnd.oci.image.layer.v1.tar", title="docs", **{UNPACK: "true"}
    )
    layer = descriptor_of(text, title="a.txt", key="value")
    registry.put_manifest(REPOSITORY, tag, manifest_of(layer, packed))


def memory_kib(mounted: Mounted) -> int:
    """Return the daemon's memory."""
    status = Path(f"/proc/{mounted.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def disturb(registry: FakeRegistry, step: int) -> None:
    """Do one of the things that happen."""
    put(registry, MOVING[step % 2], step % 1000)
    if step % 5 == 0:
        with suppress(OSError):  # root only
            Path("/proc/sys/vm/drop_caches").write_text("2")
    if step % 10 == 9:
        registry.stop()
        registry.start()


def walk(
    mounted: Mounted, disturb_once: Callable[[int], None]
) -> list[tuple[int, dict[str, int]]]:
    """Let all walkers run for some time; return what each of them found."""
    names = (",".join((*FIXED, *MOVING)), ",".join(FIXED))
    command = [sys.executable, "-I", "-S", "-c", WALKER, str(mounted.path)]
    walkers = [
        Popen([*command, str(seed), *names], stdin=PIPE, stdout=PIPE, text=True)
        for seed in range(WALKERS)
    ]
    try:
        pause = threading.Event()
        for step in range(10, 10 + int(SECONDS / STEP_SECONDS)):
            pause.wait(STEP_SECONDS)
            disturb_once(step)
        return [ast.literal_eval(each.communicate("", timeout=60)[0]) for each in walkers]
    finally:
        for each in walkers:
            each.kill()


def test_fifty_walkers_see_whole_versions_whatever_happens(tmp_path: Path) -> None:
    with FakeRegistry() as registry:
        for number, tag in enumerate((*FIXED, *MOVING)):
            put(registry, tag, number)
        options = ("tag_ttl=1", "log_level=INFO")
        with Mounted(f"{registry.host}/{REPOSITORY}", tmp_path, *options) as mounted:
            run(["find", mounted.path, "-type", "f", "-exec", "cat", "{}", "+"])
            before = memory_kib(mounted)
            found = walk(mounted, lambda step: disturb(registry, step))
            assert [wrong for _, wrong in found if wrong] == []
            assert min(rounds for rounds, _ in found) > 0
            assert memory_kib(mounted) - before < MAX_GROWTH_KIB
            run(["fusermount3", "-u", "--", mounted.path])
            assert mounted.wait() == 0
        loud = [line for line in mounted.log().splitlines() if " WARNING " in line]
        assert all("its last answers stand" in line for line in loud), loud
        assert " ERROR " not in mounted.log()
