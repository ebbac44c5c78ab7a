"""The reference client, where there is one: the `oras` command, or the library it is made of.

Owns how each is called. Debian does not have `oras`, but version 1 of the ORAS Go library
(golang-oras-oras-go-dev), to which `orasgo/main.go` beside this gives a command line. Both pack
and restore directories by the same rules; the manifests are those of their versions. All is by
plain HTTP and without credentials.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

_FRONT = Path(__file__).with_name("orasgo") / "main.go"
_LIBRARY = "src/oras.land/oras-go/pkg/oras"
_DEBIAN = Path("/usr/share/gocode")
_BUILD_SECONDS = 300.0


class ReferenceClient(Protocol):
    """The command lines of a program that pushes and pulls."""

    name: str

    def push(self, reference: str, *names: str) -> list[str]:
        """Push files and directories of the working directory, whose names are their titles."""
        ...

    def pull(self, reference: str, out: Path) -> list[str]:
        """Restore below `out` what a tag of a registry has."""
        ...

    def pull_layout(self, layout: Path, tag: str, out: Path) -> list[str]:
        """Restore below `out` what a tag of a layout has."""
        ...


class Oras:
    """The command."""

    name = "oras"

    def push(self, reference: str, *names: str) -> list[str]:
        return ["oras", "push", "--plain-http", reference, *names]

    def pull(self, reference: str, out: Path) -> list[str]:
        return ["oras", "pull", "--plain-http", "-o", str(out), reference]

    def pull_layout(self, layout: Path, tag: str, out: Path) -> list[str]:
        return ["oras", "pull", "--oci-layout", "-o", str(out), f"{layout}:{tag}"]


class OrasGo:
    """The library; `program` is its front, built."""

    name = "oras-go"

    def __init__(self, program: Path) -> None:
        self._program = str(program)

    def push(self, reference: str, *names: str) -> list[str]:
        return [self._program, "push", reference, *names]

    def pull(self, reference: str, out: Path) -> list[str]:
        return [self._program, "pull", reference, str(out)]

    def pull_layout(self, layout: Path, tag: str, out: Path) -> list[str]:
        return [self._program, "pull-layout", str(layout), tag, str(out)]


def oras(_directory: Path) -> Oras | str:
    """Return the command, or why there is none."""
    return Oras() if shutil.which("oras") else "oras is not on PATH"


def oras_go(directory: Path) -> OrasGo | str:
    """Build the library's front in a directory; return it, or why there is none."""
    if not shutil.which("go"):
        return "go is not on PATH"
    named = [Path(each) for each in os.environ.get("GOPATH", "").split(":") if each]
    found = [path for path in (*named, _DEBIAN) if (path / _LIBRARY).is_dir()]
    if not found:
        return "the ORAS Go library is not installed (golang-oras-oras-go-dev)"
    program = directory / "orasgo"
    # Without modules, which would be fetched.
    settings = {
        "GO111MODULE": "off",
        "GOPATH": str(found[0]),
        "GOCACHE": str(directory / "gocache"),
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false",
    }
    subprocess.run(
        ["go", "build", "-o", program, _FRONT],
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        timeout=_BUILD_SECONDS,
        check=True,
    )
    return OrasGo(program)


CLIENTS: dict[str, Callable[[Path], ReferenceClient | str]] = {"oras": oras, "oras-go": oras_go}
