"""Which scopes a request needs, and how scopes are united."""

import pytest

from orasfs.registry.scopes import merge, repository_of, scopes_of

UPLOADS = "/v2/a/b/blobs/uploads/"


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("HEAD", "/v2/a/b/manifests/v1", {"repository:a/b:pull"}),
        ("GET", "https://h:5000/v2/a/b/blobs/sha256:00", {"repository:a/b:pull"}),
        ("GET", "/v2/a/b/tags/list?n=1&last=x", {"repository:a/b:pull"}),
        ("GET", "/v2/a/b/referrers/sha256:00", {"repository:a/b:pull"}),
        ("PUT", "/v2/a/b/manifests/v1", {"repository:a/b:pull,push"}),
        ("DELETE", "/v2/a/b/manifests/v1", {"repository:a/b:delete"}),
        ("POST", UPLOADS, {"repository:a/b:pull,push"}),
        ("PATCH", f"{UPLOADS}1?_state=x", {"repository:a/b:pull,push"}),
        ("GET", f"{UPLOADS}1", {"repository:a/b:pull,push"}),
        ("DELETE", f"{UPLOADS}1", {"repository:a/b:pull,push"}),
        (
            "POST",
            f"{UPLOADS}?mount=sha256:00&from=c%2Fd",
            {"repository:a/b:pull,push", "repository:c/d:pull"},
        ),
        ("POST", f"{UPLOADS}?mount=sha256:00&from=a/b", {"repository:a/b:pull,push"}),
        ("GET", "/v2/_catalog?n=5", {"registry:catalog:*"}),
        ("GET", "/v2/", set()),
    ],
)
def test_scopes_follow_from_the_request(method: str, url: str, expected: set[str]) -> None:
    assert scopes_of(method, url) == expected


def test_an_upload_at_an_opaque_address_is_for_its_repository() -> None:
    assert scopes_of("PUT", "https://h/x/upload?s=1", "a") == {"repository:a:pull,push"}


def test_a_repository_may_be_called_like_a_part_of_the_path() -> None:
    assert repository_of("/v2/blobs/manifests/v1") == "blobs"
    assert repository_of("/v2/a/manifests/blobs/sha256:0") == "a"


def test_actions_of_one_resource_are_united() -> None:
    found = merge(["repository:a:push,pull", "repository:b:pull", "repository:a:delete", ""])
    assert found == ("", "repository:a:delete,pull,push", "repository:b:pull")
    assert merge(["repository:h:5000/a:*", "repository:h:5000/a:pull"]) == (
        "repository:h:5000/a:*",
    )
