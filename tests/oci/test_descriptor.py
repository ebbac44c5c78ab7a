"""Descriptors and platforms."""

import pytest

from orasfs.oci.descriptor import (
    ANNOTATION_TITLE,
    ANNOTATION_UNPACK,
    EMPTY_JSON_DIGEST,
    Descriptor,
    Platform,
)


def describe(annotations: dict[str, str]) -> Descriptor:
    return Descriptor("text/plain", EMPTY_JSON_DIGEST, 2, annotations)


def test_the_title_is_the_annotation_or_empty() -> None:
    assert describe({ANNOTATION_TITLE: "a/b"}).title == "a/b"
    assert describe({}).title == ""


@pytest.mark.parametrize(
    ("value", "is_packed"), [("true", True), ("True", False), ("1", False), ("", False)]
)
def test_only_the_word_true_makes_a_packed_directory(value: str, *, is_packed: bool) -> None:
    assert describe({ANNOTATION_UNPACK: value}).is_packed_directory is is_packed


def test_descriptors_are_values() -> None:
    one, other = describe({"a": "1"}), describe({"a": "1"})
    assert one == other
    assert hash(one) == hash(other)
    assert one != describe({"a": "2"})


@pytest.mark.parametrize(
    ("platform", "text", "is_known"),
    [
        (Platform("amd64", "linux"), "linux/amd64", True),
        (Platform("arm64", "linux", "v8"), "linux/arm64/v8", True),
        (Platform("unknown", "unknown"), "unknown/unknown", False),
        (Platform("", "linux"), "linux", False),
        (Platform("", ""), "", False),
    ],
)
def test_platforms_print_and_know_whether_they_are_real(
    platform: Platform, text: str, *, is_known: bool
) -> None:
    assert (str(platform), platform.is_known) == (text, is_known)
