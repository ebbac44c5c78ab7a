import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import (
    Forbidden,
    InvalidName,
    NotFound,
    OrasfsError,
    RateLimited,
    RegistryError,
    RegistryFailure,
    Unauthorized,
    Unsupported,
)
from orasfs.oci.digest import Digest
from orasfs.oci.reference import is_tag
from orasfs.registry import protocol
from orasfs.registry.protocol import Answer, ContentRange

DIGEST = Digest.of(b"content")
URL = "http://localhost:5000/v2/team/hello/tags/list?n=2"
NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def answer(status: int = 200, body: bytes = b"", /, **headers: str) -> Answer:
    return Answer(URL, status, {k.replace("_", "-"): v for k, v in headers.items()}, body)


def test_paths_follow_the_specification() -> None:
    assert protocol.manifest_path("team/hello", "v1") == "/v2/team/hello/manifests/v1"
    assert protocol.manifest_path("a", str(DIGEST)) == f"/v2/a/manifests/{DIGEST}"
    assert protocol.blob_path("a", DIGEST) == f"/v2/a/blobs/{DIGEST}"
    assert protocol.tags_path("a") == "/v2/a/tags/list"
    assert protocol.tags_path("a", 5) == "/v2/a/tags/list?n=5"
    assert protocol.referrers_path("a", DIGEST) == f"/v2/a/referrers/{DIGEST}"


@pytest.mark.parametrize("name", ["", "..", "a/../b", "A", "a b", "a?n=1", "a#", "/a", "a//b"])
def test_no_name_escapes_its_path(name: str) -> None:
    with pytest.raises(InvalidName):
        protocol.tags_path(name)


def test_reference_is_quoted() -> None:
    assert protocol.manifest_path("a", "../b?c") == "/v2/a/manifests/..%2Fb%3Fc"


def test_referrers_tag_is_truncated_to_what_a_tag_can_be() -> None:
    tag = protocol.referrers_tag(Digest.of(b"", "sha512"))
    assert tag == f"sha512-{Digest.of(b'', 'sha512').hex[:64]}"
    assert is_tag(tag)


def test_unusual_manifest_type_is_accepted_first() -> None:
    assert protocol.accept_header("application/vnd.x+json").startswith("application/vnd.x+json, ")
    assert protocol.accept_header("text/html\r\nX: y") == protocol.accept_header()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (405, Unsupported),
        (501, Unsupported),
        (429, RateLimited),
        (500, RegistryFailure),
        (503, RegistryFailure),
        (418, RegistryFailure),
        (204, RegistryFailure),
    ],
)
def test_status_becomes_exception(status: int, kind: type[OrasfsError]) -> None:
    error = protocol.error_of(answer(status), "registry/team:v1")
    assert type(error) is kind
    assert str(error).startswith("registry/team:v1: ")
    if isinstance(error, RegistryError):
        assert error.status == status


def test_message_has_the_registrys_own_code_and_words() -> None:
    body = b'{"errors":[{"code":"DENIED","message":"requested access is denied","detail":[]}]}'
    error = protocol.error_of(answer(403, body), "x")
    assert "DENIED: requested access is denied" in str(error)
    assert isinstance(error, Forbidden)
    assert error.code == "DENIED"


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"404 page not found\n", "text/plain", "404 page not found"),
        (b"<html><h1>Bad Gateway", "text/html", ""),
        (b"<html>", "text/plain", ""),
        (b"\x1b[31mred\x00\nand more", "text/plain", "[31mred and more"),
        (b"[]", "application/json", "[]"),
        (b'{"errors":[17,{"code":"X"}]}', "application/json", "X"),
        (b"", "", ""),
        (b"a" * 600, "", "a" * 500 + "…"),
        (b"[" * 100_000, "", "[" * 500 + "…"),
    ],
)
def test_error_bodies_of_any_format(body: bytes, content_type: str, words: str) -> None:
    assert protocol.error_words(answer(400, body, content_type=content_type))[1] == words


@given(st.binary(max_size=300), st.integers(200, 599))
def test_any_error_body_has_a_message(body: bytes, status: int) -> None:
    message = str(protocol.error_of(answer(status, body), "x"))
    assert message.startswith("x: ")
    assert message.isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["errors", "code", "message", "tags", "x"]), inner)
    ),
)


@given(json_values)
def test_any_json_is_a_list_a_failure_and_an_error(value: object) -> None:
    body = json.dumps(value).encode()
    assert str(protocol.error_of(answer(404, body), "x"))
    try:
        tags = protocol.tags_of(answer(200, body))
    except RegistryFailure:
        return
    assert all(is_tag(tag) for tag in tags)


HEADERS = {
    "content_type": "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
    "content_length": "859",
    "docker_content_digest": str(DIGEST),
}


def test_head_of_a_manifest_is_its_descriptor() -> None:
    found = protocol.descriptor_of(answer(200, **HEADERS), "v1")
    assert found is not None
    assert found.media_type == "application/vnd.oci.image.manifest.v1+json"
    assert (found.digest, found.size) == (DIGEST, 859)


def test_head_of_a_digest_needs_no_digest_header() -> None:
    headers = HEADERS | {"docker_content_digest": ""}
    found = protocol.descriptor_of(answer(200, **headers), str(DIGEST))
    assert found is not None
    assert found.digest == DIGEST


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content_type", ""),
        ("content_type", "nonsense"),
        ("content_length", ""),
        ("content_length", "0"),
        ("content_length", "-1"),
        ("content_length", "١٢"),
        ("content_length", "9" * 30),
        ("docker_content_digest", ""),
        ("docker_content_digest", "md5:x"),
    ],
)
def test_head_that_does_not_tell_is_no_descriptor(name: str, value: str) -> None:
    assert protocol.descriptor_of(answer(200, **(HEADERS | {name: value})), "v1") is None


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("", None),
        (
            '</v2/team/hello/tags/list?last=b&n=2>; rel="next"',
            "http://localhost:5000/v2/team/hello/tags/list?last=b&n=2",
        ),
        (
            "<?next_page=x%3D>; rel=next",
            "http://localhost:5000/v2/team/hello/tags/list?next_page=x%3D",
        ),
        (
            '</a>; rel="prev", <http://localhost:5000/b,c;d>; title="x"; rel="next"',
            "http://localhost:5000/b,c;d",
        ),
        ('</x>; rel="first next"', "http://localhost:5000/x"),
        ('</x>; rel="nextish"', None),
        ("</x>", None),
        ("nonsense; rel=next", None),
    ],
)
def test_link_to_the_next_page(link: str, expected: str | None) -> None:
    assert protocol.next_page(answer(link=link)) == expected


@pytest.mark.parametrize(
    "link",
    [
        "<http://evil.example/v2/>; rel=next",
        "<https://localhost:5000/x>; rel=next",
        "<//evil.example/x>; rel=next",
        "<http://[x/>; rel=next",
        f"<{URL}>; rel=next",
    ],
)
def test_link_to_elsewhere_or_in_a_circle_is_refused(link: str) -> None:
    with pytest.raises(RegistryFailure):
        protocol.next_page(answer(link=link))


@given(st.text(alphabet='<>;=", relnxt/?ab', max_size=60))
def test_any_link_is_read_or_refused(link: str) -> None:
    try:
        target = protocol.next_page(answer(link=link))
    except RegistryFailure:
        return
    assert target is None or target.startswith("http://localhost:5000/")


@pytest.mark.parametrize(
    ("body", "tags"),
    [
        (b'{"name":"x","tags":["b","a"]}', ["b", "a"]),
        (b'{"name":"x","tags":null}', []),
        (b'{"name":"x"}', []),
        (b'{"tags":["ok","../../etc","","a/b","-x","' + b"t" * 200 + b'"]}', ["ok"]),
    ],
)
def test_tag_lists(body: bytes, tags: list[str]) -> None:
    assert protocol.tags_of(answer(200, body)) == tags


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nonsense", b'{"tags":"x"}', b'{"tags":[1]}', b"\xff"]
)
def test_what_is_no_tag_list_is_a_failure(body: bytes) -> None:
    with pytest.raises(RegistryFailure):
        protocol.tags_of(answer(200, body))


def test_catalog_leaves_out_what_is_no_repository() -> None:
    body = b'{"repositories":["a","a/b","../x","UPPER"]}'
    assert protocol.repositories_of(answer(200, body)) == ["a", "a/b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-9/10", ContentRange(0, 9, 10)),
        ("bytes 5-9/*", ContentRange(5, 9, None)),
        ("bytes 9-5/10", None),
        ("bytes 0-10/10", None),
        ("bytes */10", None),
        ("items 0-9/10", None),
        ("", None),
    ],
)
def test_content_range(text: str, expected: ContentRange | None) -> None:
    assert protocol.content_range(text) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 12:00:30", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert protocol.retry_after_seconds(text, NOW) == seconds


@given(st.text(max_size=40))
def test_any_retry_after_is_read_or_ignored(text: str) -> None:
    seconds = protocol.retry_after_seconds(text, NOW)
    assert seconds is None or seconds >= 0


def test_warnings_of_the_specifications_form_only() -> None:
    header = '299 - "deprecated, \\"soon\\"", 199 - "other", 299 - "second"'
    assert protocol.warnings_of(answer(warning=header)) == ['deprecated, "soon"', "second"]
