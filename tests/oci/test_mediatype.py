"""Media types: which are image layers, which are well formed."""

import pytest

from orasfs.oci import mediatype


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ],
)
def test_layers_of_container_images_are_recognised(media_type: str) -> None:
    assert mediatype.is_image_layer(media_type)


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "application/vnd.oci.image.layer.v1.tar+gzip2",
        "application/vnd.oci.image.layer.v1.tar+encrypted",
        "application/vnd.oci.empty.v1+json",
        "application/vnd.in-toto+json",
        " application/vnd.oci.image.layer.v1.tar",
        "application/vndXoci.image.layer.v1.tar",
    ],
)
def test_other_types_are_no_image_layers(media_type: str) -> None:
    assert not mediatype.is_image_layer(media_type)


@pytest.mark.parametrize(
    ("media_type", "is_valid"),
    [
        ("text/plain", True),
        ("application/vnd.acme.rocket.config.v1+json", True),
        ("text", False),
        ("/plain", False),
        ("text/", False),
        ("text/pla in", False),
        ("text/plain; charset=utf-8", False),
        (f"text/{'a' * 127}", True),
        (f"text/{'a' * 128}", False),
    ],
)
def test_a_media_type_is_two_names_of_rfc_6838(media_type: str, *, is_valid: bool) -> None:
    assert mediatype.is_valid(media_type) is is_valid


def test_parameters_and_case_of_a_content_type_do_not_matter() -> None:
    header = "Application/VND.oci.image.manifest.v1+JSON ; charset=utf-8"
    assert mediatype.strip_parameters(header) == mediatype.OCI_MANIFEST


def test_every_readable_kind_is_asked_for() -> None:
    assert set(mediatype.ACCEPTED) == mediatype.MANIFEST_TYPES | mediatype.INDEX_TYPES
