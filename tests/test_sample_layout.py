"""The sample of the quick start is a valid layout, always of the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

from orasfs.oci.descriptor import ANNOTATION_REF_NAME
from orasfs.oci.digest import Digest, verify
from orasfs.oci.manifest import Manifest, parse_document

SCRIPT = Path(__file__).parent.parent / "scripts" / "sample_layout.py"


def make(target: Path) -> None:
    subprocess.run([sys.executable, SCRIPT, target], check=True, timeout=60)


def contents(layout: Path) -> dict[str, bytes]:
    files = (path for path in layout.rglob("*") if path.is_file())
    return {str(path.relative_to(layout)): path.read_bytes() for path in files}


def test_every_blob_is_what_its_name_says_and_both_tags_name_the_artifact(tmp_path: Path) -> None:
    layout = tmp_path / "local" / "hello"
    make(layout)
    tags = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert [tag["annotations"][ANNOTATION_REF_NAME] for tag in tags] == ["v1", "latest"]
    blobs = layout / "blobs" / "sha256"
    for path in blobs.iterdir():
        assert Digest.of(path.read_bytes()).hex == path.name
    raw = (blobs / Digest.parse(tags[0]["digest"]).hex).read_bytes()
    artifact = parse_document(raw, tags[0]["mediaType"])
    assert isinstance(artifact, Manifest)
    assert [layer.title for layer in artifact.layers] == ["greeting.txt", "docs"]
    for layer in artifact.layers:
        verify((blobs / layer.digest.hex).read_bytes(), layer.digest, layer.size)


def test_it_is_the_same_wherever_it_is_made(tmp_path: Path) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_layout_that_is_there_is_left_alone(tmp_path: Path) -> None:
    layout = tmp_path / "hello"
    make(layout)
    (layout / "index.json").write_text("the user's own")
    make(layout)
    assert (layout / "index.json").read_text() == "the user's own"
    assert [path.name for path in tmp_path.iterdir()] == ["hello"]
