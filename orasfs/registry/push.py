"""Pushing into one repository: blobs asked for and mounted, manifests, and referrers.

Owns which requests a push takes and what their answers mean. A blob's bytes go by the bulk path,
everything else by the control path. Knows no HTTP library.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import trio

from orasfs.errors import (
    Forbidden,
    InvalidName,
    NotFound,
    RegistryFailure,
    TagMoved,
    TooLarge,
    Unreachable,
)
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, verify
from orasfs.oci.manifest import MAX_MANIFEST_BYTES, Index, Manifest
from orasfs.oci.reference import is_tag
from orasfs.oci.storage import (
    ANY,
    BlobContent,
    Expectation,
    GrowingContent,
    ManifestFetcher,
    Resolver,
)
from orasfs.registry import protocol, referrers, uploads
from orasfs.registry.bulk import BulkTransport
from orasfs.registry.protocol import Answer
from orasfs.registry.transport import Call, Transport
from orasfs.registry.uploadjob import GrowingJob, WholeJob

logger = logging.getLogger(__name__)

_PUT_STATUSES = frozenset({200, 201, 204})
_INDEX_TRIES = 4  # of changing an index that others change too
_Change = Callable[[bytes | None], bytes | None]


class Reader(Resolver, ManifestFetcher, Protocol):
    """How the repository is read."""


class Pusher:
    """Pushes into the repository `name`; `subject` names it in messages.

    `referrers_lock` is held by whoever changes an index of referrers: all of this process take
    turns, so that none undoes what another one is about to look at.
    """

    def __init__(
        self,
        name: str,
        subject: str,
        transport: Transport,
        bulk: BulkTransport,
        reader: Reader,
        referrers_lock: trio.Lock,
    ) -> None:
        self._name = name
        self._subject = subject
        self._transport = transport
        self._bulk = bulk
        self._reader = reader
        self._referrers_lock = referrers_lock

    def __repr__(self) -> str:
        return f"Pusher({self._subject})"

    # Blobs

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """See `BlobPusher.has_blob`."""
        path = protocol.blob_path(self._name, descriptor.digest)
        answer = await self._ask("HEAD", path, self._named(descriptor.digest))
        if answer.status == 404:
            return False
        if protocol.is_refused_head(answer, path):
            return True  # it named the storage's address
        if answer.status != 200:
            error = uploads.push_error(answer, self._named(descriptor.digest))
            if isinstance(error, Forbidden):
                return False  # as of what does not exist: the upload will tell
            raise error
        length = answer.headers.get("content-length", "")
        return not length or length == str(descriptor.size)

    async def mount_blob(self, descriptor: Descriptor, from_repository: str) -> bool:
        """See `BlobPusher.mount_blob`."""
        subject = self._named(descriptor.digest)
        path = uploads.mount_path(self._name, descriptor.digest, from_repository)
        answer = await self._ask("POST", path, subject)
        if answer.status == 201:
            return True
        if answer.status == 202:
            # The registry has begun an upload instead, which is no use: it is sent elsewhere.
            await self._end_session(answer, subject)
        elif answer.status == 429 or answer.status >= 500:
            raise uploads.push_error(answer, subject)
        logger.debug("blob not mounted subject=%s from=%s", subject, from_repository)
        return False

    async def _end_session(self, answer: Answer, subject: str) -> None:
        try:
            session = uploads.session_of(answer, subject)
            await self._transport.send(Call("DELETE", session, subject, protocol.MAX_ERROR_BYTES))
        except (Unreachable, RegistryFailure) as error:
            logger.debug("upload session is left to expire subject=%s reason=%s", subject, error)

    def push_blob(
        self,
        descriptor: Descriptor,
        content: BlobContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """See `BlobPusher.push_blob`."""
        subject = self._named(descriptor.digest)
        self._bulk.upload(
            WholeJob(self._name, subject, on_progress, is_cancelled, content, descriptor)
        )

    def follow_blob(
        self,
        content: GrowingContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """See `BlobPusher.follow_blob`: a session in chunks, ended when the digest is known."""
        subject = f"{self._subject}: a blob that is being written"
        self._bulk.upload(GrowingJob(self._name, subject, on_progress, is_cancelled, content))

    # Manifests

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation = ANY
    ) -> None:
        """See `ManifestPusher.push_manifest`."""
        if ":" not in reference and not is_tag(reference):
            raise InvalidName(f"tag {reference[:140]!r}: not a valid one")
        digest = _digest_for(raw, reference)
        subject = self._named(reference)
        if len(raw) > MAX_MANIFEST_BYTES:
            raise TooLarge(f"{subject}: a manifest of {len(raw)} bytes, over {MAX_MANIFEST_BYTES}")
        if ":" in reference:
            expected = ANY  # a digest names one manifest for ever
        await self._check_tag(reference, expected, (expected, digest))
        answer = await self._put_manifest(raw, media_type, reference)
        said = protocol.header_digest(answer)
        if said is not None and said.algorithm == digest.algorithm and said != digest:
            raise RegistryFailure(f"{subject}: the registry stored it as {said}, not as {digest}")
        document = referrers.read_document(raw)
        if document is not None and document.subject and "oci-subject" not in answer.headers:
            await self._record_referrer(document, document.subject.digest, digest)
        # A registry may answer for a while with what was there before.
        await self._check_tag(reference, expected, (expected, digest, None))

    async def _put_manifest(self, raw: bytes, media_type: str, reference: str) -> Answer:
        path = protocol.manifest_path(self._name, reference)
        subject = self._named(reference)
        answer = await self._transport.send(
            Call(
                "PUT",
                path,
                subject,
                protocol.MAX_ERROR_BYTES,
                body=raw,
                content_type=media_type,
            )
        )
        if answer.status not in _PUT_STATUSES:
            is_tag = ":" not in reference
            raise (uploads.tag_error if is_tag else uploads.push_error)(answer, subject)
        return answer

    async def _check_tag(
        self, tag: str, expected: Expectation, allowed: tuple[Expectation, ...]
    ) -> None:
        """Look at what a tag names, unless that does not matter.

        Raises:
            TagMoved: it is none of what is allowed.
        """
        if expected is ANY:
            return
        found = await self.digest_of(tag)
        if found not in allowed:
            raise TagMoved(
                f"{self._named(tag)}: it is {found or 'gone'} now, and was expected to be "
                f"{expected or 'absent'}",
                expected=str(expected or ""),
                found=str(found or ""),
            )

    async def digest_of(self, tag: str) -> Digest | None:
        """Return what a tag names, None where it does not exist.

        A registry may refuse what does not exist; whether it refuses the push too, that will tell.
        """
        try:
            return (await self._reader.resolve(tag)).digest
        except (NotFound, Forbidden):
            return None

    # Referrers

    async def _record_referrer(
        self, document: Manifest | Index, subject: Digest, digest: Digest
    ) -> None:
        if await self.lacks_referrers(subject):
            entry = referrers.entry_of(document, digest)
            await self.change_referrers(subject, lambda raw: referrers.with_entry(raw, entry))

    async def lacks_referrers(self, subject: Digest) -> bool:
        """Tell whether referrers of `subject` are kept under a tag, for want of an API."""
        path = protocol.referrers_path(self._name, subject)
        call = Call(
            "GET",
            path,
            f"{self._named(subject)}: referrers",
            MAX_MANIFEST_BYTES,
            mediatype.OCI_INDEX,
        )
        return referrers.lacks_api(await self._transport.send(call))

    async def change_referrers(self, subject: Digest, change: _Change) -> None:
        """Change the index of referrers, and look whether the change stayed.

        Args:
            subject: to which they refer.
            change: returns the new index for the old one, None where nothing is to be changed.

        Raises:
            RegistryFailure: it did not stay.
        """
        tag = protocol.referrers_tag(subject)
        async with self._referrers_lock:
            for _ in range(_INDEX_TRIES):
                changed = change(await self._index_at(tag))
                if changed is None:
                    return
                await self._put_manifest(changed, mediatype.OCI_INDEX, tag)
        raise RegistryFailure(f"{self._named(tag)}: somebody else keeps changing the referrers")

    async def _index_at(self, tag: str) -> bytes | None:
        path = protocol.manifest_path(self._name, tag)
        accept = protocol.accept_header()
        subject = self._named(tag)
        answer = await self._transport.send(Call("GET", path, subject, MAX_MANIFEST_BYTES, accept))
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise protocol.error_of(answer, subject)
        is_index = referrers.media_type_of(answer) in mediatype.INDEX_TYPES
        return answer.body if is_index else None

    async def _ask(self, method: str, path: str, subject: str) -> Answer:
        return await self._transport.send(Call(method, path, subject, protocol.MAX_ERROR_BYTES))

    def _named(self, reference: Digest | str) -> str:
        text = str(reference)
        return f"{self._subject}{'@' if ':' in text else ':'}{text}"


def _digest_for(raw: bytes, reference: str) -> Digest:
    """Return the manifest's digest, by the algorithm of a reference that is one."""
    if ":" not in reference:
        return Digest.of(raw)
    digest = Digest.parse(reference)
    verify(raw, digest, len(raw))
    return digest
