"""The fake registry with the write side: uploads, manifests, removal, and faults in mid-body.

with PushableRegistry() as registry:
    registry.break_body(r"/uploads/", after=1000)
    …
    assert registry.count("PUT", r"/uploads/") == 2
"""

import json
import re
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from tests.fakes.registry import FakeRegistry
from tests.support.loopback import Exchange
from tests.support.publish import digest_of

_UPLOADS = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<session>[^/]*)")
_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")
_SPAN = re.compile(r"(\d+)-(\d+)")
_PIECE_BYTES = 64 * 1024


@dataclass
class Break:
    """A connection that ends after so many bytes of a request's body; kept says what of them."""

    path: str
    after: int
    times: int
    is_kept: bool = True


@dataclass
class _Session:
    name: str
    content: bytearray = field(default_factory=bytearray)


class PushableRegistry(FakeRegistry):
    """A registry that takes pushes.

    Attributes:
        takes_whole: answer a PUT of a blob's body with 413 otherwise.
        largest_chunk: 416 above; 0 is no limit.
        refuses_streams: the status that answers a body without a length; 0 takes it.
        takes_part: keep only so many bytes of a chunk, and say so; 0 is all of it.
        tells_range: whether answers to chunks say what was received.
        minimum_chunk: the OCI-Chunk-Min-Length, 0 for none.
        locations: what the Location of an upload session begins with.
        deletes_tags: DELETE by tag works.
        deletes: DELETE works at all.
        mounts: blobs can be mounted.
        sends_subject: answer a push of a referrer with OCI-Subject.
        removed_sessions: sessions that were cancelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.takes_whole = True
        self.largest_chunk = 0
        self.refuses_streams = 0
        self.takes_part = 0
        self.tells_range = True
        self.minimum_chunk = 0
        self.locations = ""
        self.deletes_tags = True
        self.deletes = True
        self.mounts = True
        self.sends_subject = True
        self.removed_sessions = 0
        self.received_bytes = 0
        self._sessions: dict[str, _Session] = {}
        self._breaks: list[Break] = []
        self._write_lock = threading.RLock()

    def break_body(self, path: str, after: int, *, times: int = 1, is_kept: bool = True) -> None:
        """Reset the connection in the middle of bodies sent to a path that matches."""
        self._breaks.append(Break(path, after, times, is_kept))

    def forget_sessions(self) -> None:
        """Lose all upload sessions, as a registry that is restarted without its state."""
        self._sessions.clear()

    @property
    def open_sessions(self) -> int:
        """Sessions that were neither finished nor cancelled."""
        return len(self._sessions)

    def respond(self, exchange: Exchange) -> None:
        """Answer one request."""
        path = urlsplit(exchange.path).path
        writes = exchange.command in ("PUT", "POST", "PATCH", "DELETE")
        if not writes and not _UPLOADS.fullmatch(path):
            super().respond(exchange)
            return
        with self._lock:
            self.note(exchange)
        body, is_whole = self._read(exchange)
        fault = self._take_fault(exchange.command, exchange.path)
        if fault.stall_after is not None:
            self._stall(exchange)
        elif fault.reset and fault.truncate_after is None:
            exchange.hang_up(reset=True)
        elif fault.status:
            exchange.answer(fault.status, dict(fault.headers), fault.body)
        else:
            with self._write_lock:
                status, headers, content = self._write(exchange.command, exchange, body)
            if not is_whole or fault.truncate_after is not None:
                # In mid-body, or done but never told.
                exchange.hang_up(reset=True)
            else:
                exchange.answer(status, headers, content)

    def _read(self, exchange: Exchange) -> tuple[bytes, bool]:
        length = exchange.body_length
        for order in self._breaks:
            is_long = length is None or length > order.after
            if order.times and is_long and re.search(order.path, exchange.path):
                order.times -= 1
                body = exchange.read_body(order.after)
                self.received_bytes += len(body)
                return body if order.is_kept else b"", False
        body = exchange.read_body()
        self.received_bytes += len(body)
        return body, length is None or len(body) == length

    def _write(
        self, method: str, exchange: Exchange, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(exchange.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        upload = _UPLOADS.fullmatch(parts.path)
        if upload is not None:
            return self._upload(method, upload["name"], upload["session"], query, exchange, body)
        manifest = _MANIFEST.fullmatch(parts.path)
        if manifest is None:
            return 404, {}, b""
        if method == "DELETE":
            return self._delete(manifest["name"], manifest["reference"])
        return self._put(manifest["name"], manifest["reference"], exchange, body)

    # Uploads

    def _upload(
        self,
        method: str,
        name: str,
        session: str,
        query: dict[str, str],
        exchange: Exchange,
        body: bytes,
    ) -> tuple[int, dict[str, str], bytes]:
        if method == "POST":
            return self._begin(name, query)
        found = self._sessions.get(session)
        if found is None:
            return _refuse(404, "BLOB_UPLOAD_UNKNOWN")
        if method in ("GET", "DELETE"):
            where = self._where(name, session)
            if method == "DELETE":
                del self._sessions[session]
                self.removed_sessions += 1
            return 204, where, b""
        if method == "PATCH":
            return self._take_chunk(name, session, found, exchange, body)
        if body and not self.takes_whole:
            return 413, {"Content-Type": "text/html"}, b"<html>Request Entity Too Large</html>"
        found.content += body
        return self._finish(name, session, found, query["digest"])

    def _begin(self, name: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        content = self._blobs.get(query.get("from", ""), {}).get(query.get("mount", ""))
        if content is not None and self.mounts:
            self._blobs[name][query["mount"]] = content
            return 201, {"Location": f"/v2/{name}/blobs/{query['mount']}"}, b""
        session = f"s{len(self.requests)}"
        self._sessions[session] = _Session(name)
        headers = self._where(name, session)
        if self.minimum_chunk:
            headers["OCI-Chunk-Min-Length"] = str(self.minimum_chunk)
        return 202, headers, b""

    def _where(self, name: str, session: str) -> dict[str, str]:
        location = f"{self.locations}/v2/{name}/blobs/uploads/{session}?_state=x"
        received = len(self._sessions[session].content)
        return {"Location": location, "Range": f"0-{max(received - 1, 0)}"}

    def _take_chunk(
        self, name: str, session: str, found: _Session, exchange: Exchange, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        match = _SPAN.fullmatch(exchange.headers.get("Content-Range", ""))
        if exchange.body_length is None and self.refuses_streams:
            return self.refuses_streams, {}, b""
        is_stream = exchange.body_length is None and not found.content
        if not is_stream and (match is None or int(match[1]) != len(found.content)):
            return _refuse(416, "BLOB_UPLOAD_INVALID")
        if self.largest_chunk and len(body) > self.largest_chunk:
            return 413, {}, b""
        found.content += body[: self.takes_part or len(body)]
        headers = self._where(name, session)
        if not self.tells_range:
            del headers["Range"]
        return 202, headers, b""

    def _finish(
        self, name: str, session: str, found: _Session, digest: str
    ) -> tuple[int, dict[str, str], bytes]:
        content = bytes(found.content)
        if digest_of(content) != digest:
            return _refuse(400, "DIGEST_INVALID")
        del self._sessions[session]
        self._blobs[name][digest] = content
        return 201, {"Location": f"/v2/{name}/blobs/{digest}"}, b""

    # Manifests

    def _put(
        self, name: str, reference: str, exchange: Exchange, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        document = json.loads(body)
        needed = [document.get("config") or {}, *(document.get("layers") or [])]
        for blob in needed:
            if blob and blob["digest"] not in self._blobs[name]:
                return _refuse(400, "MANIFEST_BLOB_UNKNOWN")
        media_type = exchange.headers.get("Content-Type", "")
        digest = self.put_manifest(name, reference, body, media_type)
        headers = {"Docker-Content-Digest": digest}
        if document.get("subject") and self.has_referrers and self.sends_subject:
            headers["OCI-Subject"] = document["subject"]["digest"]
        return 201, headers, b""

    def _delete(self, name: str, reference: str) -> tuple[int, dict[str, str], bytes]:
        if not self.deletes:
            return _refuse(405, "UNSUPPORTED")
        tags, manifests = self._tags[name], self._manifests[name]
        if ":" not in reference:
            if not self.deletes_tags:
                return _refuse(400, "DIGEST_INVALID")
            return (
                (202, {}, b"") if tags.pop(reference, None) else _refuse(404, "MANIFEST_UNKNOWN")
            )
        if manifests.pop(reference, None) is None:
            return _refuse(404, "MANIFEST_UNKNOWN")
        self._tags[name] = {tag: digest for tag, digest in tags.items() if digest != reference}
        return 202, {}, b""


def _refuse(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
    return status, {"Content-Type": "application/json"}, body
