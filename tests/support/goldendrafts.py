"""The golden artifacts as drafts: what their pushes were given, as entries and settings."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.golden import GOLDEN
from tests.support.mounted import run
from tests.support.staged import golden_inputs

ROCKET = "application/vnd.acme.rocket"


@dataclass(frozen=True)
class Wanted:
    """The arguments of a golden push as a draft has them."""

    names: tuple[str, ...]
    top: dict[str, str] = field(default_factory=dict)
    media_types: dict[str, str] = field(default_factory=dict)
    config: bool = False
    annotations: bool = False


TEXT = {"artifact.txt": "text/plain"}
CONFIG_TYPE = {"config.mediatype": f"{ROCKET}.config.v1+json"}
RAW = {
    "single": Wanted(("artifact.txt",), {"artifacttype": f"{ROCKET}.config"}),
    "typed": Wanted(("artifact.txt",), {"artifacttype": f"{ROCKET}.config"}, TEXT),
    "untyped": Wanted(("artifact.txt",)),
    "config": Wanted(("artifact.txt",), CONFIG_TYPE, TEXT, config=True),
    "config-and-type": Wanted(
        ("artifact.txt",), {"artifacttype": ROCKET, **CONFIG_TYPE}, TEXT, config=True
    ),
    "empty-file": Wanted(("empty.bin", "zeros.bin")),
    "spec-v1.0": Wanted(
        ("artifact.txt",), {"config.mediatype": "application/vnd.unknown.config.v1+json"}, TEXT
    ),
    "no-layers": Wanted((), {"artifacttype": "application/vnd.acme.empty"}),
    "annotated": Wanted(("artifact.txt",), annotations=True),
    "nested-titles": Wanted(
        ("nested/a/b/c.txt", "nested/a/top.txt", "artifact.txt"),
        {"pack": "files", "order": "nested/a/b/c.txt,nested/a/top.txt,artifact.txt"},
    ),
}
PACKED = {
    "multi": Wanted(
        ("artifact.txt", "docs"),
        CONFIG_TYPE,
        {**TEXT, "docs": f"{ROCKET}.docs.layer.v1+tar"},
        config=True,
    ),
    "dir-default-type": Wanted(("docs",)),
    "two-dirs": Wanted(("docs", "nested")),
}


def fill(draft: Path, wanted: Wanted, inputs: Path) -> None:
    """Copy the inputs into a draft of a mount and tell it the rest, as a person would.

    Args:
        draft: an empty draft.
        wanted: which golden push it is.
        inputs: a directory to make the inputs in.
    """
    golden_inputs(inputs, *wanted.names)
    run(["cp", "-a", f"{inputs}/.", draft])
    attributes = [(draft, name, value) for name, value in wanted.top.items()]
    attributes += [
        (draft / name, "mediatype", value) for name, value in wanted.media_types.items()
    ]
    for path, name, value in attributes:
        run(["setfattr", "-n", f"user.oras.{name}", "-v", value, path])
    if wanted.config:
        shutil.copyfile(GOLDEN / "inputs/config.json", draft / ".oras/config")
    if wanted.annotations:
        annotations = GOLDEN / "inputs/annotations.json"
        shutil.copyfile(annotations, draft / ".oras/annotations.json")
