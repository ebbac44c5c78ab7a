"""Artifacts that would do harm, on a real mount: refused with a reason, and the mount lives on."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from tests.fakes.registry import FakeRegistry
from tests.fakes.repositories import UNPACK
from tests.support.mounted import Mounted, run
from tests.support.publish import OCI_MANIFEST, descriptor_of, digest_of, manifest_of

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

REPOSITORY = "team/app"
PACKED = "application/vnd.oci.image.layer.v1.tar+gzip"
MIB = 1024 * 1024


def header(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, size, 0o755
    return info.tobuf(tarfile.GNU_FORMAT)


def zeros(size_mib: int) -> bytes:
    """Compress many zeros, without ever having them all."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as archive:
        for _ in range(size_mib):
            archive.write(bytes(MIB))
    return buffer.getvalue()


DIRECTORY = header("d", tarfile.DIRTYPE)
# What each tar has behind its directory, and the reason that it is refused for.
TARS = {
    "absolute": (header("/etc/passwd"), "absolute path"),
    "outside": (header("d/../../x"), "leaves the directory"),
    "beside": (header("e/x"), "outside of it"),
    "link-out": (header("d/l", tarfile.SYMTYPE, "../../x"), "leads outside"),
    "through-link": (
        header("d/l", tarfile.SYMTYPE, "/etc") + header("d/l/passwd"),
        "no symbolic link allowed",
    ),
    "hard-link-out": (header("d/h", tarfile.LNKTYPE, "/etc/passwd"), "absolute path"),
    "endless-name": (header("l", tarfile.GNUTYPE_LONGNAME, size=1024 * MIB), "over 1 MiB"),
    "no-tar": (b"x" * 1024, "checksum"),
}
TITLES = {"/etc/shadow": b"1", "../up": b"2", "a/../../b": b"3", "ok": b"fine"}


def put_packed(registry: FakeRegistry, tag: str, blob: bytes) -> None:
    registry.put_blob(REPOSITORY, blob)
    layer = descriptor_of(blob, PACKED, title="d", **{UNPACK: "true"})
    registry.put_manifest(REPOSITORY, tag, manifest_of(layer))


def put_all(registry: FakeRegistry) -> None:
    registry.put_blob(REPOSITORY, b"{}")
    for tag, (members, _) in TARS.items():
        put_packed(registry, tag, gzip.compress(DIRECTORY + members, mtime=0) + zeros(8))
    zero = gzip.compress(DIRECTORY + header("d/zeros", size=2048 * MIB), mtime=0)
    put_packed(registry, "bomb", zero + zeros(2049))
    layers = [descriptor_of(content, title=title) for title, content in TITLES.items()]
    for content in TITLES.values():
        registry.put_blob(REPOSITORY, content)
    registry.put_manifest(REPOSITORY, "titles", manifest_of(*layers))
    deep = b'{"schemaVersion":2,"x":' + b"[" * MIB + b"]" * MIB + b"}"
    registry.put_manifest_as(REPOSITORY, digest_of(deep), deep, OCI_MANIFEST)
    registry.tag(REPOSITORY, digest_of(deep), "deep")


def test_hostile_artifacts_are_refused_with_a_reason_and_the_mount_lives_on(
    tmp_path: Path,
) -> None:
    with FakeRegistry() as registry:
        put_all(registry)
        with Mounted(f"{registry.host}/{REPOSITORY}", tmp_path) as mounted:
            root = mounted.path
            for tag, (_, reason) in TARS.items():
                done = run(["find", root / tag, "-mindepth", "1"], check=False)
                assert done.stdout == f"{root}/{tag}/d\n"
                assert "Input/output error" in done.stderr, tag
                assert reason in (root / tag / ".oras/error").read_text(), tag
            assert "Input/output error" in run(["ls", root / "deep"], check=False).stderr
            assert "not JSON" in (root / "deep/.oras/error").read_text()
            assert run(["ls", "-A", root / "titles"]).stdout == "ok\n"
            assert (root / "titles/.oras/error").read_text().count("path traversal") == 3
            # Two gigabytes of zeros in two megabytes: shown, and no burden on disk or memory.
            assert run(["stat", "-c", "%s", root / "bomb/d/zeros"]).stdout == f"{2048 * MIB}\n"
            kept = run(["du", "-sm", mounted.cache]).stdout.split()[0]
            assert int(kept) < 100
            status = Path(f"/proc/{mounted.process.pid}/status").read_text()
            assert int(status.partition("VmHWM:")[2].split()[0]) < 150 * 1024
        assert not (tmp_path / "up").exists()
