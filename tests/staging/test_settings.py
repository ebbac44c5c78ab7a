"""What attributes, annotation file and config of a draft mean for its packing."""

import pytest

from orasfs.errors import InvalidInput
from orasfs.oci.descriptor import ANNOTATION_TITLE, Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.manifest import Manifest, parse_document
from orasfs.staging import settings
from orasfs.staging.layerblob import Compression
from orasfs.staging.manifest import ImageSpec, ManifestFields, build_manifest, config_descriptor
from orasfs.staging.pack import Packing, PackSettings
from orasfs.staging.settings import Said, check_setting, pack_settings

GOOD = [
    (settings.MEDIA_TYPE, b"text/plain", False),
    (f"{settings.ANNOTATION}any.key", "välue".encode(), False),
    (settings.PACK, b"files", False),
    (settings.ARTIFACT_TYPE, b"application/vnd.x", True),
    (settings.CONFIG_MEDIA_TYPE, b"application/json", True),
    (settings.ORDER, b"b,a", True),
    (settings.EPOCH, b"1709251200", True),
    (settings.COMPRESSION, b"zstd", True),
    (settings.LINKS, b"any", True),
    (settings.FORCE, b"1", True),
    (f"{settings.ANNOTATION}org.opencontainers.image.created", b"2024-02-29T12:34:56Z", True),
]
BAD = [
    (settings.MEDIA_TYPE, b"text", False, "media type"),
    (settings.PACK, b"zip", False, "tar or files"),
    (settings.ARTIFACT_TYPE, b"a/b", False, "top directory"),
    (settings.ORDER, b"a,b,a", True, "twice"),
    (settings.EPOCH, b"-1", True, "seconds"),
    (settings.EPOCH, b"999999999999", True, "seconds"),
    (settings.COMPRESSION, b"xz", True, "gzip"),
    (settings.FORCE, b"yes", True, "0 or 1"),
    (f"{settings.PREFIX}unknown", b"1", True, "no such setting"),
    (f"{settings.ANNOTATION}", b"1", True, "key"),
    (f"{settings.ANNOTATION}k", b"\xff", True, "UTF-8"),
    (f"{settings.ANNOTATION}org.opencontainers.image.created", b"today", True, "RFC 3339"),
]


@pytest.mark.parametrize(("name", "value", "is_top"), GOOD)
def test_a_setting_is_taken(name: str, value: bytes, is_top: bool) -> None:  # noqa: FBT001
    check_setting(name, value, is_top=is_top)


@pytest.mark.parametrize(("name", "value", "is_top", "words"), BAD)
def test_what_is_no_setting_is_refused_with_words(
    name: str,
    value: bytes,
    is_top: bool,  # noqa: FBT001
    words: str,
) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_setting(name, value, is_top=is_top)


def test_attributes_become_settings_and_the_rest_is_the_mounts() -> None:
    top = {
        settings.ORDER: "b,a",
        settings.EPOCH: "7",
        settings.PACK: "files",
        settings.LINKS: "any",
        settings.ARTIFACT_TYPE: "a/b",
        f"{settings.ANNOTATION}k": "v",
    }
    entries = {
        "f": {settings.MEDIA_TYPE: "text/plain", f"{settings.ANNOTATION}x": "y"},
        "d": {settings.PACK: "tar", f"{settings.ANNOTATION}{ANNOTATION_TITLE}": "another"},
    }
    found = pack_settings(Said(top, entries), PackSettings(compression=Compression.ZSTD))
    assert (found.order, found.epoch_seconds, found.packing) == (("b", "a"), 7, Packing.FILES)
    assert (found.allow_links, found.compression) == (True, Compression.ZSTD)
    assert found.packing_of == {"d": Packing.TAR}
    assert found.media_types == {"f": "text/plain"}
    assert found.layer_annotations == {"f": {"x": "y"}}
    assert (found.fields.artifact_type, found.fields.annotations) == ("a/b", {"k": "v"})
    assert found.fields.config is None


def test_an_attribute_wins_over_the_annotation_file() -> None:
    file = b'{"$manifest": {"k": "file", "l": "file"}, "$config": {"c": "d"}, "f": {"x": "file"}}'
    said = Said(
        {f"{settings.ANNOTATION}k": "attribute"},
        {"f": {f"{settings.ANNOTATION}x": "attribute"}},
        file,
    )
    found = pack_settings(said)
    assert found.fields.annotations == {"k": "attribute", "l": "file"}
    assert found.fields.config_annotations == {"c": "d"}
    assert found.layer_annotations == {"f": {"x": "attribute"}}


def test_a_config_has_its_own_bytes_or_only_a_type() -> None:
    top = {settings.CONFIG_MEDIA_TYPE: "a/b"}
    assert pack_settings(Said(top)).fields.config == config_descriptor(media_type="a/b")
    found = pack_settings(Said({}, config=b"{1}")).fields.config
    assert found == config_descriptor(b"{1}")


@pytest.mark.parametrize("raw", [b"{", b"[]", b'{"f": "x"}', b'{"f": {"k": 1}}', b"[" * 100_000])
def test_a_malformed_annotation_file_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"annotations\.json"):
        pack_settings(Said({}, annotations=raw))


def base_manifest() -> Manifest:
    fields = ManifestFields(
        artifact_type="a/b",
        config=Descriptor("c/d", Digest.of(b"config"), 6),
        config_annotations={"c": "1"},
        annotations={"k": "v"},
    )
    parsed = parse_document(build_manifest(fields, [], 0), "")
    assert isinstance(parsed, Manifest)
    return parsed


def test_nothing_said_changes_nothing_of_a_base() -> None:
    changes = pack_settings(Said({}), base=base_manifest()).changes
    assert (changes.artifact_type, changes.config, changes.annotations) == (None, None, None)


def test_what_is_said_changes_a_base() -> None:
    base = base_manifest()
    top = {
        settings.ARTIFACT_TYPE: "new/type",
        settings.CONFIG_MEDIA_TYPE: "new/config",
        f"{settings.ANNOTATION}l": "w",
    }
    changes = pack_settings(Said(top), base=base).changes
    assert changes.artifact_type == "new/type"
    assert changes.annotations is not None
    assert changes.annotations["k"] == "v"
    assert changes.annotations["l"] == "w"
    assert changes.config is not None
    assert base.config is not None
    assert (changes.config.media_type, changes.config.digest) == (
        "new/config",
        base.config.digest,
    )
    changed = pack_settings(Said({}, config=b"{2}"), base=base).changes.config
    assert changed is not None
    assert (changed.media_type, changed.digest) == ("c/d", Digest.of(b"{2}"))
    assert changed.annotations == {"c": "1"}


def test_the_form_of_the_manifest_can_be_asked_for() -> None:
    for value in ImageSpec:
        said = Said({settings.IMAGE_SPEC: value.value})
        assert settings.pack_settings(said).fields.image_spec is value
    assert settings.pack_settings(Said({})).fields.image_spec is None
    with pytest.raises(InvalidInput, match=r"v1\.0 or v1\.1"):
        settings.check_setting(settings.IMAGE_SPEC, b"1.0", is_top=True)


def test_an_edit_keeps_the_form_of_its_base() -> None:
    with pytest.raises(InvalidInput, match="keeps the base's form"):
        settings.pack_settings(Said({settings.IMAGE_SPEC: "v1.0"}), base=base_manifest())
