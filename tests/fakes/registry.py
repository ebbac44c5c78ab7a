"""A registry in this process: distribution API 1.1, read side, with faults to order.

with FakeRegistry() as registry:
    publish_files(registry, "team/hello", "v1", **{"a.txt": b"a"})
    registry.fail(r"/blobs/", truncate_after=1000, times=2)
    …
    assert registry.count("GET", r"/blobs/") == 3
"""

import json
import re
import ssl
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.counting import CountingServer
from tests.support.loopback import Exchange
from tests.support.publish import OCI_INDEX, OCI_MANIFEST, digest_of

_PIECE_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_ROUTE = re.compile(
    r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)"
)


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that match; `times` < 0: with all.

    Attributes:
        path: a regular expression, searched in path and query.
        method: "" for any.
        status: answered instead of the content, with `body`.
        headers: added to the answer.
        drop_headers: left out of the answer, by lower-case name.
        truncate_after: bytes of body after which the connection ends, as if by a crash.
        reset: the end is a RST.
        stall_after: bytes of body after which nothing comes any more; -1 stalls the headers.
        ignore_range: answer 200 with the whole.
        short_length: the Content-Length and the body are cut to so many bytes: a clean early end.
        replace: the body is this instead.
    """

    path: str
    method: str = ""
    times: int = 1
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    drop_headers: frozenset[str] = frozenset()
    truncate_after: int | None = None
    reset: bool = False
    stall_after: int | None = None
    ignore_range: bool = False
    short_length: int | None = None
    replace: bytes | None = None


@dataclass(frozen=True)
class _Manifest:
    raw: bytes
    media_type: str


class FakeRegistry(CountingServer):
    """An in-memory registry on loopback.

    Attributes:
        request_headers: the headers of every request, in the same order, names in lower case.
        page_size: names in a page of tags or repositories; 0 is no paging.
        has_referrers: whether there is a referrers API.
        has_catalog: whether there is a catalog.
        knows_all_names: answer any name's tag list with 200 and no tags.
        blob_location: a URL prefix that blob requests are redirected to; the digest is appended.
            Any registry of this class serves blobs under `/storage/`.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.request_headers: list[dict[str, str]] = []
        self.page_size = 0
        self.has_referrers = True
        self.has_catalog = True
        self.knows_all_names = False
        self.blob_location = ""
        self._faults: list[Fault] = []
        self._blobs: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._manifests: dict[str, dict[str, _Manifest]] = defaultdict(dict)
        self._tags: dict[str, dict[str, str]] = defaultdict(dict)

    # Filling

    def put_blob(self, repository: str, content: bytes | Path) -> str:
        """Store a blob; return its digest."""
        octets = content if isinstance(content, bytes) else content.read_bytes()
        return self.put_blob_as(repository, digest_of(octets), octets)

    def put_blob_as(self, repository: str, digest: str, content: bytes) -> str:
        """Store a blob under a digest that need not be its own."""
        self._blobs[repository][digest] = content
        return digest

    def put_manifest(
        self, repository: str, reference: str, raw: bytes, media_type: str = OCI_MANIFEST
    ) -> str:
        """Store a manifest under a tag or its digest; return its digest."""
        digest = digest_of(raw)
        self.put_manifest_as(repository, digest, raw, media_type)
        if ":" not in reference:
            self._tags[repository][reference] = digest
        return digest

    def put_manifest_as(
        self, repository: str, digest: str, raw: bytes, media_type: str = OCI_MANIFEST
    ) -> None:
        """Store a manifest under a digest that need not be its own."""
        self._manifests[repository][digest] = _Manifest(raw, media_type)

    def tag(self, repository: str, reference: str, *tags: str) -> str:
        """Put what `reference` names under more tags; return its digest."""
        digest = self._tags[repository].get(reference, reference)
        for tag in tags:
            self._tags[repository][tag] = digest
        return digest

    def untag(self, repository: str, tag: str) -> None:
        """Remove a tag."""
        del self._tags[repository][tag]

    # Faults and counts

    def fail(self, path: str, **fault: object) -> Fault:
        """Order a fault for requests whose path matches; see `Fault`."""
        order = Fault(path, **fault)  # type: ignore[arg-type]  # the names are Fault's
        with self._lock:
            self._faults.append(order)
        return order

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def note(self, exchange: Exchange) -> None:
        """List a request and its headers; the caller holds the lock."""
        super().note(exchange)
        fields = {name.lower(): value for name, value in exchange.headers.items()}
        self.request_headers.append(fields)

    def forget_requests(self) -> None:
        """Count from zero again."""
        super().forget_requests()
        with self._lock:
            self.request_headers.clear()

    def _take_fault(self, method: str, path: str) -> Fault:
        with self._lock:
            for fault in self._faults:
                if not fault.times or fault.method not in ("", method):
                    continue
                if re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return Fault("")

    # Serving

    def respond(self, exchange: Exchange) -> None:
        """Answer one request, as well as the faults let it."""
        with self._lock:
            self.note(exchange)
        fault = self._take_fault(exchange.command, exchange.path)
        if fault.status:
            exchange.answer(fault.status, dict(fault.headers), fault.body)
            return
        status, headers, body = self._content(exchange.path)
        if fault.replace is not None:
            body = fault.replace
        if status == 200 and not fault.ignore_range:
            status, headers, body = cut(status, headers, body, exchange.headers.get("Range", ""))
        if fault.short_length is not None:
            body = body[: fault.short_length]
        headers = {"Content-Length": str(len(body))} | headers | dict(fault.headers)
        headers = {k: v for k, v in headers.items() if k.lower() not in fault.drop_headers}
        self._send(exchange, fault, status, headers, body)

    def _send(
        self, exchange: Exchange, fault: Fault, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        if fault.stall_after is not None and fault.stall_after < 0:
            self._stall(exchange)
            return
        exchange.send_head(status, headers)
        if "content-length" in fault.drop_headers:
            exchange.close_connection = True
        if exchange.command == "HEAD":
            return
        end = len(body)
        for limit in (fault.truncate_after, fault.stall_after):
            end = min(end, limit) if limit is not None else end
        for start in range(0, end, _PIECE_BYTES):
            exchange.wfile.write(body[start : min(end, start + _PIECE_BYTES)])
        if fault.stall_after is not None:
            self._stall(exchange)
        elif fault.truncate_after is not None:
            exchange.hang_up(reset=fault.reset)

    def _stall(self, exchange: Exchange) -> None:
        self.stopping.wait(60)
        exchange.close_connection = True

    def _content(self, target: str) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path in ("/v2", "/v2/"):
            return _json(200, {})
        if parts.path == "/v2/_catalog":
            return self._catalog(query)
        if parts.path.startswith("/storage/"):
            return self._storage(parts.path.removeprefix("/storage/"))
        match = _ROUTE.fullmatch(parts.path)
        if match is None:
            return 404, {"Content-Type": "text/plain"}, b"404 page not found\n"
        name, kind, reference = match["name"], match["kind"], match["reference"]
        if kind == "tags":
            return self._tag_list(name, parts.path, query)
        serve = {"manifests": self._manifest, "referrers": self._referrers, "blobs": self._blob}
        return serve[kind](name, reference)

    def _catalog(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if not self.has_catalog:
            return _error(404, "UNSUPPORTED", "no catalog here")
        return self._page("repositories", sorted(self._known_names()), "/v2/_catalog", query)

    def _known_names(self) -> set[str]:
        return {name for name, manifests in self._manifests.items() if manifests}

    def _tag_list(
        self, name: str, path: str, query: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if name not in self._known_names() and not self.knows_all_names:
            return _error(404, "NAME_UNKNOWN", "repository name not known to registry")
        status, headers, body = self._page("tags", sorted(self._tags.get(name, {})), path, query)
        return status, headers, json.dumps({"name": name} | json.loads(body)).encode()

    def _page(
        self, key: str, names: list[str], path: str, query: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        names = [name for name in names if name > query.get("last", "")]
        size = int(query.get("n", "0")) or self.page_size
        if self.page_size:
            size = min(size, self.page_size)
        status, headers, body = _json(200, {key: names[:size] if size else names})
        if size and len(names) > size:
            headers["Link"] = f'<{path}?last={names[size - 1]}&n={size}>; rel="next"'
        return status, headers, body

    def _manifest(self, name: str, reference: str) -> tuple[int, dict[str, str], bytes]:
        digest = self._tags.get(name, {}).get(reference, reference)
        manifest = self._manifests.get(name, {}).get(digest)
        if manifest is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        headers = {"Content-Type": manifest.media_type, "Docker-Content-Digest": digest}
        return 200, headers, manifest.raw

    def _blob(self, name: str, digest: str) -> tuple[int, dict[str, str], bytes]:
        content = self._blobs.get(name, {}).get(digest)
        if content is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if self.blob_location:
            return 307, {"Location": f"{self.blob_location}{digest}?signature=secret"}, b""
        return 200, {"Content-Type": "application/octet-stream"}, content

    def _storage(self, digest: str) -> tuple[int, dict[str, str], bytes]:
        for blobs in self._blobs.values():
            if digest in blobs:
                return 200, {"Content-Type": "application/octet-stream"}, blobs[digest]
        return 403, {"Content-Type": "application/xml"}, b"<Error>expired</Error>"

    def _referrers(self, name: str, subject: str) -> tuple[int, dict[str, str], bytes]:
        if not self.has_referrers:
            return 404, {"Content-Type": "text/plain"}, b"404 page not found\n"
        found = []
        for digest, manifest in self._manifests.get(name, {}).items():
            document = json.loads(manifest.raw)
            if (document.get("subject") or {}).get("digest") == subject:
                found.append(
                    {
                        "mediaType": manifest.media_type,
                        "digest": digest,
                        "size": len(manifest.raw),
                        "artifactType": document.get("artifactType", ""),
                        "annotations": document.get("annotations", {}),
                    }
                )
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}
        return 200, {"Content-Type": OCI_INDEX}, json.dumps(index).encode()


def cut(
    status: int, headers: dict[str, str], body: bytes, wanted: str
) -> tuple[int, dict[str, str], bytes]:
    """Serve a range, as RFC 9110 section 14 has it."""
    match = _RANGE.fullmatch(wanted)
    if match is None:
        return status, headers, body
    first, last = int(match[1]), int(match[2] or len(body) - 1)
    last = min(last, len(body) - 1)
    if first > last:
        return 416, {"Content-Range": f"bytes */{len(body)}"}, b""
    headers = headers | {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
    return 206, headers, body[first : last + 1]


def _json(status: int, document: object) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(document).encode()


def _error(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    return _json(status, {"errors": [{"code": code, "message": message, "detail": None}]})
