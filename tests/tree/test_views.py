import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Index, Manifest, parse_document
from orasfs.tree.node import Broken, Child, Directory, Node, RawFile
from orasfs.tree.views import (
    MAX_DIRECTORIES,
    ViewOptions,
    build_view,
    problems_of,
    select_platform,
)

TITLE = "org.opencontainers.image.title"
CREATED_NS = 1709251200 * 10**9


def _layer(title: str | None, content: str = "", **annotations: str) -> dict[str, Any]:
    own = {key.replace("_", "."): value for key, value in annotations.items()}
    if title is not None:
        own[TITLE] = title
    return {
        "mediaType": "text/plain",
        "digest": str(Digest.of((content or title or "").encode())),
        "size": 5,
        "annotations": own,
    }


def _packed(title: str, content: str = "", digest: str = "") -> dict[str, Any]:
    layer = _layer(title, content, io_deis_oras_content_unpack="true")
    if digest:
        layer["annotations"]["io.deis.oras.content.digest"] = digest
    return layer


def _manifest(*layers: dict[str, Any], config: str = mediatype.EMPTY) -> Manifest:
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "config": {"mediaType": config, "digest": str(Digest.of(b"{}")), "size": 2},
        "layers": list(layers),
        "annotations": {"org.opencontainers.image.created": "2024-03-01T00:00:00Z"},
    }
    parsed = parse_document(json.dumps(document).encode())
    assert isinstance(parsed, Manifest)
    return parsed


def _view(*layers: dict[str, Any], options: ViewOptions | None = None) -> Directory:
    return build_view(_manifest(*layers), options or ViewOptions())


def _paths(view: Directory) -> dict[str, Node]:
    found: dict[str, Node] = {}
    stack = [("", view)]
    while stack:
        prefix, directory = stack.pop()
        for name, node in directory.entries.items():
            found[prefix + name] = node
            if isinstance(node, Directory):
                stack.append((f"{prefix}{name}/", node))
    return found


def test_title_is_a_file_with_the_manifests_time() -> None:
    view = _view(_layer("artifact.txt"))
    file = view.entries["artifact.txt"]
    assert isinstance(file, RawFile)
    assert (file.mode, file.mtime_ns, file.descriptor.size) == (0o644, CREATED_NS, 5)
    assert (view.mode, view.mtime_ns) == (0o755, CREATED_NS)
    assert problems_of(view) == ()


def test_slashes_of_a_title_make_directories() -> None:
    paths = _paths(_view(_layer("a/b/c.txt"), _layer("a/top.txt")))
    assert sorted(paths) == ["a", "a/b", "a/b/c.txt", "a/top.txt"]
    directory = paths["a"]
    assert isinstance(directory, Directory)
    assert (directory.mode, directory.mtime_ns, directory.packed) == (0o755, CREATED_NS, ())


def test_layers_without_a_title_or_of_an_empty_one_are_not_listed() -> None:
    view = _view(_layer(None, "x"), _layer("", "y"), _layer(".", "z"), _layer("a"))
    assert list(view.entries) == ["a"]
    assert problems_of(view) == ()


def test_packed_directory_names_its_layer_root_and_content_digest() -> None:
    digest = Digest.of(b"tar")
    directory = _view(_packed("./docs/", "x", str(digest))).entries["docs"]
    assert isinstance(directory, Directory)
    (layer,) = directory.packed
    assert (layer.root, layer.content_digest, layer.has_whiteouts) == ("docs", digest, False)
    assert directory.layer == layer.descriptor


def test_content_digest_that_does_not_parse_is_none() -> None:
    directory = _view(_packed("docs", "x", "md5:00")).entries["docs"]
    assert isinstance(directory, Directory)
    assert directory.packed[0].content_digest is None


def test_raw_title_inside_a_packed_directory_merges_in_any_order() -> None:
    for layers in ((_packed("docs"), _layer("docs/x")), (_layer("docs/x"), _packed("docs"))):
        directory = _view(*layers).entries["docs"]
        assert isinstance(directory, Directory)
        assert list(directory.entries) == ["x"]
        assert directory.packed[0].root == "docs"


@pytest.mark.parametrize(
    "title", ["/etc/passwd", "../x", "a/../../x", "..", "/", "x\0y", "n" * 256]
)
def test_title_that_leaves_the_artifact_is_not_shown_and_told(title: str) -> None:
    view = _view(_layer(title), _layer("good"))
    assert list(view.entries) == ["good"]
    (problem,) = problems_of(view)
    assert "path traversal disallowed" in problem


@pytest.mark.parametrize("titles", [("f", "f"), ("f", "./f"), ("a/f", "a//f")])
def test_one_title_twice_with_equal_content_is_one_file(titles: tuple[str, str]) -> None:
    view = _view(_layer(titles[0], "same"), _layer(titles[1], "same"))
    assert isinstance(_paths(view)[titles[0]], RawFile)
    assert problems_of(view) == ()


@pytest.mark.parametrize("titles", [("f", "f"), ("f", "./f"), ("a/f", "a/f/")])
def test_one_title_twice_with_different_content_is_broken(titles: tuple[str, str]) -> None:
    view = _view(_layer(titles[0], "one"), _layer(titles[1], "two"), _layer("good"))
    assert _paths(view)[titles[0]] == Broken(f"{titles[0]}: duplicate name")
    assert isinstance(view.entries["good"], RawFile)
    assert problems_of(view) == (f"{titles[0]}: duplicate name",)


def test_one_digest_once_packed_and_once_raw_is_broken() -> None:
    view = _view(_packed("f", "same"), _layer("f", "same"))
    assert view.entries["f"] == Broken("f: duplicate name")


def test_equal_content_under_two_titles_is_two_files() -> None:
    assert list(_view(_layer("a", "same"), _layer("b", "same")).entries) == ["a", "b"]


@pytest.mark.parametrize("reverse", [False, True])
def test_title_that_is_both_file_and_directory_is_broken(reverse: bool) -> None:  # noqa: FBT001 - pytest passes parameters by position
    layers = [_layer("a"), _layer("a/b"), _layer("a/b/c")]
    view = _view(*(reversed(layers) if reverse else layers))
    assert _paths(view) == {"a": Broken("a: both a file and a directory")}


def test_control_characters_newlines_and_backslashes_are_names() -> None:
    assert list(_view(_layer("a\tb"), _layer("c\nd"), _layer("e\\f")).entries) == [
        "a\tb",
        "c\nd",
        "e\\f",
    ]


@pytest.mark.parametrize(
    ("text", "mode"), [("0755", 0o755), ("600", 0o600), ("0o640", 0o640), ("4755", 0o755)]
)
def test_mode_annotation_sets_the_permission_bits(text: str, mode: int) -> None:
    file = _view(_layer("run", io_orasfs_mode=text)).entries["run"]
    assert isinstance(file, RawFile)
    assert file.mode == mode


@pytest.mark.parametrize("text", ["", "rwx", "0999", "-1", "07777777", "\u0667\u0665\u0665"])
def test_mode_annotation_that_is_no_mode_is_ignored_and_told(text: str) -> None:
    view = _view(_layer("run", io_orasfs_mode=text))
    file = view.entries["run"]
    assert isinstance(file, RawFile)
    assert file.mode == 0o644
    assert "no octal mode" in problems_of(view)[0]


def test_problems_are_told_up_to_a_hundred() -> None:
    view = _view(*(_layer(f"../{number}") for number in range(150)))
    problems = problems_of(view)
    assert len(problems) == 101
    assert problems[-1] == "and 50 more"


def test_media_type_glob_shows_only_what_matches() -> None:
    other = _layer("b") | {"mediaType": "application/json"}
    options = ViewOptions(media_type="text/*")
    assert list(_view(_layer("a"), other, options=options).entries) == ["a"]


def test_foreign_layer_with_a_title_is_shown() -> None:
    assert list(_view(_layer("a") | {"urls": ["https://example.org/a"]}).entries) == ["a"]


def test_titles_that_make_too_many_directories_are_cut_off_and_told() -> None:
    layers = [_layer(f"{number}/" + "/".join("d" * 120) + "/f") for number in range(850)]
    view = _view(*layers)
    assert len(_paths(view)) <= MAX_DIRECTORIES + len(layers)
    assert f"over {MAX_DIRECTORIES} directories" in problems_of(view)[0]


def _image_layers(count: int = 2) -> list[dict[str, Any]]:
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    return [_layer(None, str(number)) | {"mediaType": media_type} for number in range(count)]


@pytest.mark.parametrize("config", sorted(mediatype.IMAGE_CONFIG_TYPES))
def test_container_image_is_its_layers_topmost_first(config: str) -> None:
    manifest = _manifest(*_image_layers(), config=config)
    view = build_view(manifest, ViewOptions())
    assert [layer.descriptor for layer in view.packed] == list(reversed(manifest.layers))
    assert all(layer.has_whiteouts and layer.root == "" for layer in view.packed)


def test_what_is_no_container_image_is_not_merged() -> None:
    image = mediatype.OCI_CONFIG
    attestation = _layer(None) | {"mediaType": "application/vnd.in-toto+json"}
    titled = _image_layers(1)[0] | {"annotations": {TITLE: "layer.tar"}}
    for manifest in (
        _manifest(*_image_layers()),
        _manifest(config=image),
        _manifest(*_image_layers(), attestation, config=image),
        _manifest(*_image_layers(), titled, config=image),
    ):
        assert build_view(manifest, ViewOptions()).packed == ()


def test_images_as_blobs_are_their_titles() -> None:
    manifest = _manifest(*_image_layers(), config=mediatype.OCI_CONFIG)
    view = build_view(manifest, ViewOptions(images=False))
    assert (view.packed, dict(view.entries)) == ((), {})


def _child(content: str, **platform: str) -> dict[str, Any]:
    child: dict[str, Any] = {
        "mediaType": mediatype.OCI_MANIFEST,
        "digest": str(Digest.of(content.encode())),
        "size": 7,
    }
    if platform:
        child["platform"] = {"os.version" if k == "version" else k: v for k, v in platform.items()}
    return child


def _index(*children: dict[str, Any]) -> Index:
    document = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": list(children)}
    parsed = parse_document(json.dumps(document).encode())
    assert isinstance(parsed, Index)
    return parsed


def _named(content: str) -> str:
    return f"sha256-{Digest.of(content.encode()).hex}"


def test_children_are_named_by_platform() -> None:
    view = build_view(
        _index(
            _child("a", os="linux", architecture="amd64"),
            _child("b", os="linux", architecture="arm64", variant="v8"),
        ),
        ViewOptions(),
    )
    assert sorted(view.entries) == ["linux-amd64", "linux-arm64-v8"]
    child = view.entries["linux-amd64"]
    assert isinstance(child, Child)
    assert child.descriptor.digest == Digest.of(b"a")


@pytest.mark.parametrize(
    "platform",
    [
        {},
        {"os": "unknown", "architecture": "unknown"},
        {"os": "linux", "architecture": ""},
        {"os": "..", "architecture": "/x"},
        {"os": "a/b", "architecture": "c"},
        {"os": "a\0b", "architecture": "c"},
        {"os": ".oras", "architecture": "x"},
        {"os": "o" * 300, "architecture": "x"},
        {"os": "sha256", "architecture": "0" * 64},
    ],
)
def test_child_without_a_usable_platform_is_named_by_digest(platform: dict[str, str]) -> None:
    view = build_view(_index(_child("a", **platform)), ViewOptions())
    assert list(view.entries) == [_named("a")]


def test_children_that_share_a_platform_are_named_by_digest() -> None:
    view = build_view(
        _index(
            _child("a", os="windows", architecture="amd64", version="10"),
            _child("b", os="windows", architecture="amd64", version="11"),
            _child("c", os="linux", architecture="amd64"),
        ),
        ViewOptions(),
    )
    assert set(view.entries) == {_named("a"), _named("b"), "linux-amd64"}


def test_child_listed_twice_is_one() -> None:
    linux = _child("a", os="linux", architecture="amd64")
    assert list(build_view(_index(linux, linux), ViewOptions()).entries) == ["linux-amd64"]
    twice = _index(linux, _child("a", os="linux", architecture="arm64"))
    assert list(build_view(twice, ViewOptions()).entries) == ["linux-amd64"]


def test_platform_is_selected_as_the_reference_client_does() -> None:
    index = _index(
        _child("none"),
        _child("v6", os="linux", architecture="arm", variant="v6"),
        _child("v7", os="linux", architecture="arm", variant="v7"),
        _child("w", os="windows", architecture="amd64", version="10.0"),
    )

    def selected(platform: str) -> Digest | None:
        child: Descriptor | None = select_platform(index, platform)
        return child.digest if child else None

    assert selected("linux/arm") == Digest.of(b"v6")
    assert selected("linux/arm/v7") == Digest.of(b"v7")
    assert selected("windows/amd64:10.0") == Digest.of(b"w")
    assert selected("windows/amd64:11") is None
    assert selected("linux/amd64") is None
    assert selected("linux/arm/v7/x") is None


_PIECES = st.sampled_from(["a", "b", "..", ".", "", "/", "c/d", "\0", "é", "x" * 300, "a/b"])
_TITLES = st.one_of(st.none(), st.lists(_PIECES, max_size=4).map("/".join), st.text(max_size=20))
_LAYERS = st.lists(
    st.tuples(_TITLES, st.sampled_from(["1", "2"]), st.booleans(), st.text(max_size=5)), max_size=8
)


@given(_LAYERS)
def test_no_manifest_makes_a_view_fail_or_leaves_it(
    layers: list[tuple[str | None, str, bool, str]],
) -> None:
    """Names are always such as a directory can hold."""
    made = []
    for title, content, is_packed, mode in layers:
        layer = _layer(title, content, io_orasfs_mode=mode)
        if is_packed:
            layer["annotations"]["io.deis.oras.content.unpack"] = "true"
        made.append(layer)
    view = _view(*made)
    for node in (*_paths(view).values(), view):
        if isinstance(node, Directory):
            for name in node.entries:
                assert name not in ("", ".", "..")
                assert not set(name) & {"/", "\0"}
                assert len(name.encode()) <= 255
    for problem in problems_of(view):
        problem.encode()
