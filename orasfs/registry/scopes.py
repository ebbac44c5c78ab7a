"""Scopes: what a token is asked for (distribution docs/spec/auth/scope.md).

Owns which scope a request needs, read off its method and URL, so that no caller has to say.
Pure.
"""

import re
from collections.abc import Iterable
from urllib.parse import parse_qs, urlsplit

Scopes = frozenset[str]

NO_SCOPES: Scopes = frozenset()
CATALOG = "registry:catalog:*"

_REPOSITORY = re.compile(r"/v2/(?P<name>.+?)/(?:manifests|blobs|tags|referrers)/")
_READING = frozenset({"GET", "HEAD"})
_UPLOADS = "/blobs/uploads/"


def repository_of(url: str) -> str:
    """Return the repository that a URL or path of the distribution API is about, "" if none."""
    match = _REPOSITORY.search(urlsplit(url).path)  # a mirror may have a path before
    return match["name"] if match else ""


def scopes_of(method: str, url: str, repository: str = "") -> Scopes:
    """Return the scopes that a request needs.

    Args:
        method: of the request.
        url: or path. A mount of a blob (end-11) reads its other repository too.
        repository: of an address that does not show it, as those of uploads need not.
    """
    parts = urlsplit(url)
    if parts.path == "/v2/_catalog":
        return frozenset({CATALOG})
    name = repository_of(url)
    if not name:
        return frozenset({f"repository:{repository}:pull,push"}) if repository else NO_SCOPES
    found = {f"repository:{name}:{_actions(method, parts.path)}"}
    if method == "POST":
        sources = parse_qs(parts.query).get("from", [])
        found |= {f"repository:{source}:pull" for source in sources if source != name}
    return frozenset(found)


def _actions(method: str, path: str) -> str:
    if method in _READING and _UPLOADS not in path:
        return "pull"
    return "delete" if method == "DELETE" and _UPLOADS not in path else "pull,push"


def merge(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return scopes with the actions of equal resources united, sorted, each once."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, words = scope.rpartition(":")
        if not colon or ":" not in resource:
            actions.setdefault(scope, set())  # in no form that is known: passed on as it is
            continue
        actions.setdefault(resource, set()).update(word for word in words.split(",") if word)
    return tuple(sorted(_joined(resource, words) for resource, words in actions.items()))


def _joined(resource: str, words: set[str]) -> str:
    if not words:
        return resource
    return f"{resource}:{'*' if '*' in words else ','.join(sorted(words))}"
