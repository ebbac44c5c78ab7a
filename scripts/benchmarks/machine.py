"""Describes the machine that measured, so that numbers can be judged and compared.

Reads /proc and asks programs for their versions; says "unknown" rather than failing. Host name and
user are left out: results are published.
"""

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path


def describe(directory: Path) -> dict[str, str]:
    """Return what the numbers depend on; `directory` is where data and caches are kept."""
    facts = {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": _memory(),
        "kernel": platform.release(),
        "filesystem": _filesystem(directory),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
    for package in ("orasfs", "pyfuse3", "trio", "urllib3", "isal"):
        facts[package] = _package(package)
    for program, argument in (("docker-registry", "--version"), ("curl", "--version")):
        facts[program] = _program(program, argument)
    if shutil.which("oras"):
        facts["oras"] = _program("oras", "version")
    return facts


def _field(path: Path, name: str) -> str:
    """Return the first value of a `name: value` file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return "unknown"
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _memory() -> str:
    kibibytes = _field(Path("/proc/meminfo"), "MemTotal").removesuffix(" kB")
    return f"{int(kibibytes) / 2**20:.1f} GiB" if kibibytes.isdigit() else "unknown"


def _filesystem(directory: Path) -> str:
    """Return the type of the filesystem below `directory`: that of the longest mount prefix."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, fstype, *_ = line.split(" ")
        if directory.resolve().is_relative_to(point) and len(point) >= len(best):
            best, kind = point, fstype
    return kind


def _package(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _program(name: str, argument: str) -> str:
    """Return the first thing that looks like a version in what a program says."""
    path = shutil.which(name)
    if path is None:
        return "not installed"
    answer = subprocess.run([path, argument], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+\S*", answer.stdout or answer.stderr)
    return found.group() if found else "unknown"
