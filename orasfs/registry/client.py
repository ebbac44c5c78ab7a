"""A remote registry as a source: the ports of `oci.storage`, over the two HTTP paths.

Owns which requests an operation takes and what their answers mean. Knows no HTTP library.
Everything it returns has been parsed; manifests have been verified.
"""

from collections.abc import Callable, Mapping

import trio

from orasfs.errors import (
    ContentMismatch,
    InvalidName,
    RegistryFailure,
    Unsupported,
)
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest, verify
from orasfs.oci.manifest import MAX_MANIFEST_BYTES, Index, parse_document
from orasfs.oci.reference import is_repository
from orasfs.oci.storage import (
    ANY,
    BlobContent,
    BlobStream,
    Expectation,
    GrowingContent,
    Page,
)
from orasfs.registry import protocol, referrers
from orasfs.registry.bulk import BulkTransport
from orasfs.registry.circuit import CircuitStatus
from orasfs.registry.credential import CredentialFinder
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.pools import Pools
from orasfs.registry.protocol import Answer
from orasfs.registry.push import Pusher
from orasfs.registry.removal import Remover
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.tokenservice import new_authorizer
from orasfs.registry.traffic import Traffic
from orasfs.registry.transport import Call, Transport

_MAX_REFERRER_PAGES = 1000  # of a registry that never ends its list


class RemoteRegistry:
    """The registry `host` (`HOST[:PORT]`); implements `SourceRegistry`.

    Making one makes no request. `credentials` are the user's; without, all is done as anybody.
    `transport` and `bulk` are for tests; by default both are made from the settings. `endpoint` is
    the address where that is another one than the host's name says: a mirror's.
    """

    def __init__(
        self,
        host: str,
        settings: RegistrySettings,
        *,
        credentials: CredentialFinder | None = None,
        transport: Transport | None = None,
        bulk: BulkTransport | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        endpoint = endpoint or Endpoint(host, plain_http=settings.plain_http)
        self.host = host
        pools = Pools(endpoint, settings)
        authorizer = new_authorizer(endpoint, settings, pools, credentials)
        self._traffic = Traffic(host, settings)
        self._referrers_lock = trio.Lock()
        self._transport = transport or Transport(
            endpoint, settings, authorizer=authorizer, traffic=self._traffic
        )
        self._bulk = bulk or BulkTransport(
            endpoint, settings, authorizer=authorizer, pools=pools, traffic=self._traffic
        )

    def __repr__(self) -> str:
        return f"RemoteRegistry({self.host})"

    def repository(self, name: str) -> "RemoteRepository":
        """Return the repository of that full name; makes no request.

        Raises:
            InvalidName: no repository can be called so.
        """
        if not is_repository(name):
            raise InvalidName(f"repository {name[:300]!r}: not a valid name")
        return RemoteRepository(self.host, name, self._transport, self._bulk, self._referrers_lock)

    @property
    def reader(self) -> "RemoteRegistry":
        """The registry as it is read: itself."""
        return self

    def insist(self) -> None:
        """Have the registry asked again, even if it is left alone for now."""
        self._traffic.circuit.insist()

    @property
    def circuits(self) -> Mapping[str, CircuitStatus]:
        """The circuit of its host."""
        return {self.host: self._traffic.circuit.status}

    async def list_repositories(self, token: str | None = None) -> Page:
        """See `RepositoryLister.list_repositories`."""
        subject = f"{self.host}: catalog"
        target = token or protocol.catalog_path()
        answer = await self._transport.send(Call("GET", target, subject, protocol.MAX_PAGE_BYTES))
        if answer.status in (401, 403, 404, 405, 501):
            raise Unsupported(str(protocol.error_of(answer, subject)))
        _expect_200(answer, subject)
        return Page(protocol.repositories_of(answer), protocol.next_page(answer))

    async def ping(self) -> None:
        """Ask whether this is a registry that will speak with us (end-1).

        Raises:
            NotFound: something answers, and it is no registry.
        """
        subject = self.host
        answer = await self._transport.send(Call("GET", "/v2/", subject, protocol.MAX_ERROR_BYTES))
        _expect_200(answer, subject)

    async def aclose(self) -> None:
        """Close all connections; streams that are open fail. Harmless twice."""
        self._bulk.close()
        await self._transport.aclose()


class RemoteRepository:
    """One repository of a remote registry; implements `Source` and `Target`."""

    def __init__(
        self,
        host: str,
        name: str,
        transport: Transport,
        bulk: BulkTransport,
        referrers_lock: trio.Lock,
    ) -> None:
        self.name = name
        self._subject = f"{host}/{name}"
        self._transport = transport
        self._bulk = bulk
        self._pusher = Pusher(name, self._subject, transport, bulk, self, referrers_lock)
        self._remover = Remover(name, self._subject, transport, self, self._pusher)

    def __repr__(self) -> str:
        return f"RemoteRepository({self._subject})"

    async def resolve(self, reference: str) -> Descriptor:
        """See `Resolver.resolve`: one HEAD, and a GET only where HEAD cannot tell.

        Raises:
            ContentMismatch: the registry answers a digest with another one.
        """
        answer = await self._manifest("HEAD", reference)
        if answer.status in (405, 501) or protocol.is_refused_head(
            answer, protocol.manifest_path(self.name, reference)
        ):
            return await self._resolve_by_get(reference)
        _expect_200(answer, self._named(reference))
        descriptor = protocol.descriptor_of(answer, reference)
        if descriptor is None:
            return await self._resolve_by_get(reference)
        if ":" in reference and str(descriptor.digest) != reference:
            raise ContentMismatch(
                f"{self._named(reference)}: the registry says it is {descriptor.digest}"
            )
        return descriptor

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """See `ManifestFetcher.fetch_manifest`."""
        reference = str(descriptor.digest)
        answer = await self._manifest("GET", reference, descriptor.media_type)
        _expect_200(answer, self._named(reference))
        verify(answer.body, descriptor.digest, descriptor.size)
        return answer.body

    async def list_tags(self, token: str | None = None, *, limit: int | None = None) -> Page:
        """See `TagLister.list_tags`."""
        subject = f"{self._subject}: tags"
        target = token or protocol.tags_path(self.name, limit)
        answer = await self._transport.send(Call("GET", target, subject, protocol.MAX_PAGE_BYTES))
        _expect_200(answer, subject)
        return Page(protocol.tags_of(answer), protocol.next_page(answer))

    async def list_referrers(self, subject: Digest) -> tuple[Descriptor, ...]:
        """See `ReferrerLister.list_referrers`: the API, else the referrers tag schema."""
        found: list[Descriptor] = []
        target: str | None = protocol.referrers_path(self.name, subject)
        words = f"{self._subject}@{subject}: referrers"
        pages = 0
        while target is not None:
            pages += 1
            if pages > _MAX_REFERRER_PAGES:
                raise RegistryFailure(f"{words}: more than {_MAX_REFERRER_PAGES} pages")
            answer = await self._transport.send(
                Call("GET", target, words, MAX_MANIFEST_BYTES, mediatype.OCI_INDEX)
            )
            if pages == 1 and referrers.lacks_api(answer):
                return await self._referrers_by_tag(subject)
            _expect_200(answer, words)
            found += _manifests_of(answer)
            target = protocol.next_page(answer)
        return tuple(found)

    @property
    def is_trusted(self) -> bool:
        """See `BlobStreamer.is_trusted`."""
        return self._bulk.is_trusted

    def open_stream(
        self, descriptor: Descriptor, start: int = 0, stop: int | None = None
    ) -> BlobStream:
        """See `BlobStreamer.open_stream`. Blocking: for worker threads."""
        path = protocol.blob_path(self.name, descriptor.digest)
        return self._bulk.open_stream(
            path, self._named(str(descriptor.digest)), descriptor.size, start, stop
        )

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """See `BlobPusher.has_blob`."""
        return await self._pusher.has_blob(descriptor)

    async def mount_blob(self, descriptor: Descriptor, from_repository: str) -> bool:
        """See `BlobPusher.mount_blob`."""
        return await self._pusher.mount_blob(descriptor, from_repository)

    def push_blob(
        self,
        descriptor: Descriptor,
        content: BlobContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """See `BlobPusher.push_blob`. Blocking: for worker threads."""
        self._pusher.push_blob(descriptor, content, on_progress, is_cancelled)

    def follow_blob(
        self,
        content: GrowingContent,
        on_progress: Callable[[int], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        """See `BlobPusher.follow_blob`. Blocking: for worker threads."""
        self._pusher.follow_blob(content, on_progress, is_cancelled)

    async def push_manifest(
        self, raw: bytes, media_type: str, reference: str, *, expected: Expectation = ANY
    ) -> None:
        """See `ManifestPusher.push_manifest`."""
        await self._pusher.push_manifest(raw, media_type, reference, expected=expected)

    async def delete_manifest(self, digest: Digest) -> None:
        """See `TagRemover.delete_manifest`."""
        await self._remover.delete_manifest(digest)

    async def delete_tag(self, tag: str) -> None:
        """See `TagRemover.delete_tag`."""
        await self._remover.delete_tag(tag)

    def _named(self, reference: str) -> str:
        return f"{self._subject}{'@' if ':' in reference else ':'}{reference}"

    async def _manifest(self, method: str, reference: str, media_type: str = "") -> Answer:
        path = protocol.manifest_path(self.name, reference)
        accept = protocol.accept_header(media_type)
        call = Call(method, path, self._named(reference), MAX_MANIFEST_BYTES, accept)
        return await self._transport.send(call)

    async def _resolve_by_get(self, reference: str) -> Descriptor:
        """Resolve by the content itself; the digest is computed, whatever the headers say."""
        answer = await self._manifest("GET", reference)
        _expect_200(answer, self._named(reference))
        said = Digest.parse(reference) if ":" in reference else protocol.header_digest(answer)
        digest = Digest.of(answer.body, said.algorithm if said else "sha256")
        if said is not None and said != digest:
            raise ContentMismatch(f"{self._named(reference)}: is {digest}, said to be {said}")
        header_type = mediatype.strip_parameters(answer.headers.get("content-type", ""))
        known = header_type in mediatype.MANIFEST_TYPES | mediatype.INDEX_TYPES
        document = parse_document(answer.body, header_type if known else "")
        return Descriptor(document.media_type, digest, len(answer.body))

    async def _referrers_by_tag(self, subject: Digest) -> tuple[Descriptor, ...]:
        """Read the index at the fallback tag; a tag that holds no index holds no referrers."""
        reference = protocol.referrers_tag(subject)
        answer = await self._manifest("GET", reference)
        if answer.status == 404:
            return ()
        _expect_200(answer, self._named(reference))
        return _manifests_of(answer)


def _expect_200(answer: Answer, subject: str) -> None:
    if answer.status != 200:
        raise protocol.error_of(answer, subject)


def _manifests_of(answer: Answer) -> tuple[Descriptor, ...]:
    media_type = referrers.media_type_of(answer)
    if media_type not in mediatype.INDEX_TYPES:
        return ()
    document = parse_document(answer.body, media_type)
    return document.manifests if isinstance(document, Index) else ()
