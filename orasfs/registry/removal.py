"""Removing what a reference names, and never anything else.

Owns how a tag is removed from a registry that deletes by digest only: a manifest of our own takes
the tag and is deleted, as regctl does. Knows no HTTP library.

INVARIANT: a registry is never asked to delete a manifest that a tag was found on, except by
`delete_manifest`: other tags may be on it.
"""

import io
import json
import secrets
from typing import BinaryIO

import trio

from orasfs.errors import Busy, NotFound, OrasfsError, Unsupported
from orasfs.oci import mediatype
from orasfs.oci.descriptor import EMPTY_JSON, EMPTY_JSON_DIGEST, Descriptor
from orasfs.oci.digest import Digest
from orasfs.registry import protocol, referrers, uploads
from orasfs.registry.protocol import Answer
from orasfs.registry.push import Pusher, Reader
from orasfs.registry.transport import Call, Transport

_DELETED_STATUSES = frozenset({200, 202, 204})
# docker-registry answers a tag with 400, ECR with 404, GHCR and Docker Hub with 405.
_NOT_BY_TAG = frozenset({400, 404, 405, 501})
_EMPTY = Descriptor(mediatype.EMPTY, EMPTY_JSON_DIGEST, len(EMPTY_JSON))
_REPLACE_SECONDS = 300.0
ARTIFACT_TYPE = "application/vnd.orasfs.removed.v1"


class Remover:
    """Removes tags and manifests of the repository `name`."""

    def __init__(
        self, name: str, subject: str, transport: Transport, reader: Reader, pusher: Pusher
    ) -> None:
        self._name = name
        self._subject = subject
        self._transport = transport
        self._reader = reader
        self._pusher = pusher

    def __repr__(self) -> str:
        return f"Remover({self._subject})"

    async def delete_manifest(self, digest: Digest) -> None:
        """See `TagRemover.delete_manifest`."""
        found = await self._reader.resolve(str(digest))
        document = referrers.read_document(await self._reader.fetch_manifest(found))
        await self._delete(digest)
        if document is None or document.subject is None:
            return
        subject = document.subject.digest
        if await self._pusher.lacks_referrers(subject):
            await self._pusher.change_referrers(
                subject, lambda raw: referrers.without_entry(raw, digest)
            )

    async def delete_tag(self, tag: str) -> None:
        """See `TagRemover.delete_tag`."""
        found = await self._reader.resolve(tag)
        answer = await self._ask_to_delete(tag)
        if answer.status in _DELETED_STATUSES:
            return
        if answer.status not in _NOT_BY_TAG:
            raise uploads.tag_error(answer, f"{self._subject}:{tag}")
        await self._delete_by_replacement(tag, found)

    async def _delete_by_replacement(self, tag: str, found: Descriptor) -> None:
        """Let a manifest that no one else has take the tag, and delete that."""
        raw = await self._reader.fetch_manifest(found)
        await self._push_empty_blob()
        replacement = _replacement(tag)
        digest = Digest.of(replacement)
        # Without the tag at first: if this registry deletes nothing, the tag is never touched.
        await self._pusher.push_manifest(replacement, mediatype.OCI_MANIFEST, str(digest))
        try:
            await self._delete(digest)
        except NotFound as error:
            raise Unsupported(f"{self._subject}: the registry deletes no manifests") from error
        # Shielded: whoever gives up now must not leave the tag on the replacement.
        with trio.move_on_after(_REPLACE_SECONDS, shield=True):
            await self._replace(tag, found, raw, replacement)
            return
        raise Busy(f"{self._subject}:{tag}: not removed in time; it was {found.digest}")

    async def _replace(self, tag: str, found: Descriptor, raw: bytes, replacement: bytes) -> None:
        digest = Digest.of(replacement)
        failure: OrasfsError
        try:
            await self._pusher.push_manifest(
                replacement, mediatype.OCI_MANIFEST, tag, expected=found.digest
            )
            await self._delete(digest)
        except OrasfsError as error:
            failure = error
        else:
            return
        await self._restore(tag, found, raw, digest)
        raise Busy(f"{self._subject}:{tag}: it was not removed: {failure}") from failure

    async def _restore(self, tag: str, found: Descriptor, raw: bytes, replacement: Digest) -> None:
        """Put back what the tag named, if it names the replacement.

        Raises:
            Busy: it does, and cannot be moved back.
        """
        try:
            if await self._pusher.digest_of(tag) == replacement:
                await self._pusher.push_manifest(raw, found.media_type, tag)
        except OrasfsError as error:
            raise Busy(
                f"{self._subject}:{tag}: it could neither be removed nor put back; "
                f"it was {found.digest}: {error}"
            ) from error

    async def _push_empty_blob(self) -> None:
        """See to the config that a registry wants to have of any manifest."""
        if not await self._pusher.has_blob(_EMPTY):
            await trio.to_thread.run_sync(
                self._pusher.push_blob, _EMPTY, _EmptyContent(), _ignore, _never
            )

    async def _delete(self, digest: Digest) -> None:
        answer = await self._ask_to_delete(str(digest))
        if answer.status in _DELETED_STATUSES:
            return
        if answer.status == 404 and answer.may_be_done:
            return  # by the request whose answer was lost
        subject = f"{self._subject}@{digest}"
        if answer.status == 400 and protocol.error_words(answer)[0] == "UNSUPPORTED":
            raise Unsupported(f"{subject}: the registry deletes no manifests")
        raise protocol.error_of(answer, subject)

    async def _ask_to_delete(self, reference: str) -> Answer:
        path = protocol.manifest_path(self._name, reference)
        subject = f"{self._subject}{'@' if ':' in reference else ':'}{reference}"
        call = Call("DELETE", path, subject, protocol.MAX_ERROR_BYTES)
        return await self._transport.send(call)


class _EmptyContent:
    """The bytes of the empty config."""

    size = len(EMPTY_JSON)

    def open(self) -> BinaryIO:
        """Open them at the beginning."""
        return io.BytesIO(EMPTY_JSON)


def _replacement(tag: str) -> bytes:
    """Return a manifest that there has never been, so that no other tag can be on it."""
    config = {
        "mediaType": _EMPTY.media_type,
        "digest": str(_EMPTY.digest),
        "size": _EMPTY.size,
    }
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": config,
        "layers": [config],
        "annotations": {"io.orasfs.removed": f"{tag} {secrets.token_hex(16)}"},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _ignore(_: int) -> None:
    """Nobody watches two bytes."""


def _never() -> bool:
    return False
