"""Addresses and headers of uploads, and what refusals mean, as values."""

import pytest

from orasfs.errors import (
    ContentMismatch,
    Forbidden,
    OrasfsError,
    QuotaExceeded,
    RegistryFailure,
    TagImmutable,
    TooLarge,
)
from orasfs.oci.digest import Digest
from orasfs.registry import uploads
from orasfs.registry.protocol import Answer

DIGEST = Digest.of(b"x")
URL = "https://registry.example/v2/a/b/blobs/uploads/"


def answer(status: int = 202, body: bytes = b"", **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(URL, status, fields, body)


def test_paths_are_those_of_the_specification() -> None:
    assert uploads.uploads_path("a/b") == "/v2/a/b/blobs/uploads/"
    assert uploads.mount_path("a/b", DIGEST, "c/d") == (
        f"/v2/a/b/blobs/uploads/?mount={DIGEST}&from=c%2Fd"
    )
    with pytest.raises(RegistryFailure):
        uploads.uploads_path("../etc")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/v2/a/b/blobs/uploads/1?s=x", "https://registry.example/v2/a/b/blobs/uploads/1?s=x"),
        ("1", "https://registry.example/v2/a/b/blobs/uploads/1"),
        ("https://registry.example:443/u/1#f", "https://registry.example:443/u/1"),
        ("//registry.example/u", "https://registry.example/u"),
    ],
)
def test_a_session_is_where_the_answer_says(location: str, expected: str) -> None:
    assert uploads.session_of(answer(location=location), "x") == expected


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://registry.example/u",
        "https://registry.example:444/u",
        "https://elsewhere.example/u",
        "//elsewhere.example/u",
        "ftp://registry.example/u",
        "https://[::1/u",
        "https://registry.example@elsewhere.example/u",
    ],
)
def test_a_session_elsewhere_is_refused(location: str) -> None:
    with pytest.raises(RegistryFailure):
        uploads.session_of(answer(location=location), "x")


def test_the_end_of_a_session_keeps_its_query() -> None:
    assert uploads.completion_url("https://h/u", DIGEST) == f"https://h/u?digest={DIGEST}"
    assert uploads.completion_url("https://h/u?a=b", DIGEST) == f"https://h/u?a=b&digest={DIGEST}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0-99", 100),
        ("bytes=0-99", 100),
        ("0-0", 0),
        ("", None),
        ("5-9", None),
        ("0--1", None),
        ("0-9x", None),
    ],
)
def test_received_bytes_are_told_by_an_inclusive_range(value: str, expected: int | None) -> None:
    assert uploads.received_bytes(answer(range=value)) == expected


@pytest.mark.parametrize(("value", "expected"), [("5", 5), ("", 0), ("-1", 0), ("x", 0)])
def test_the_smallest_chunk_is_a_number(value: str, expected: int) -> None:
    assert uploads.minimum_chunk(answer(oci_chunk_min_length=value)) == expected


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (413, "", True),
        (416, "", True),
        (400, "UNSUPPORTED", True),
        (400, "DIGEST_INVALID", False),
        (405, "UNSUPPORTED", True),
        (500, "", False),
    ],
)
def test_what_is_too_much_at_once(status: int, code: str, *, expected: bool) -> None:
    body = b'{"errors":[{"code":"%s","message":"m"}]}' % code.encode()
    assert uploads.is_too_much_at_once(answer(status, body)) is expected


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (413, b"", TooLarge),
        (413, b"storage quota of the project exceeded", QuotaExceeded),
        (507, b"", QuotaExceeded),
        (403, b"Quota exceeded", QuotaExceeded),
        (403, b"immutable", Forbidden),
        (400, b'{"errors":[{"code":"DIGEST_INVALID","message":"m"}]}', ContentMismatch),
        (404, b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"m"}]}', RegistryFailure),
        (500, b"quota", RegistryFailure),
    ],
)
def test_a_refused_push_is_named(status: int, body: bytes, error: type[OrasfsError]) -> None:
    found = uploads.push_error(answer(status, body), "a/b")
    assert type(found) is error
    assert str(found).startswith("a/b: ")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b"is immutable", TagImmutable),
        (409, b"tag v1 already exists", TagImmutable),
        (403, b"immutable, and over quota", QuotaExceeded),
        (500, b"immutable", RegistryFailure),
        (413, b"immutable", TooLarge),
    ],
)
def test_a_refused_tag_is_named(status: int, body: bytes, error: type[OrasfsError]) -> None:
    assert type(uploads.tag_error(answer(status, body), "a/b:v1")) is error
