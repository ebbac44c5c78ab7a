"""From the files that name a registry's mirrors to the client that reads there.

Owns what each place is given: a mirror gets the credentials and certificates of its own host, and
nothing that was meant for the registry. What cannot be used is said once, and the registry itself
is asked instead.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orasfs.errors import InvalidInput
from orasfs.oci.reference import DOCKER_HUB
from orasfs.registry.client import RemoteRegistry
from orasfs.registry.credential import CredentialFinder, NoCredentials
from orasfs.registry.endpoint import Endpoint
from orasfs.registry.hosts import ALL, Hosts, Place, find_file, read_hosts
from orasfs.registry.mirrors import MirroredRegistry
from orasfs.registry.readingplaces import ReadingPlace
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.trust import TrustOptions, make_context

logger = logging.getLogger(__name__)

# There is another place to ask: few attempts, and soon.
MIRROR_RETRY = RetryPolicy(attempts=2, deadline_seconds=20.0)
MIRROR_CONNECT_SECONDS = 5.0
_DOCKER_HUB_HOSTS = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})

Client = RemoteRegistry | MirroredRegistry


@dataclass(frozen=True, slots=True)
class Makings:
    """What clients are made of.

    Attributes:
        settings: for the registry itself, without its trust.
        trust: what the user chose.
        credentials: the user's.
    """

    settings: RegistrySettings
    trust: TrustOptions
    credentials: CredentialFinder


def make_client(host: str, makings: Makings, directories: Sequence[Path]) -> Client:
    """Return the client of a registry, with the mirrors that a file in `directories` names.

    A file that cannot be used is an error in the log, and the registry is read without it.

    Raises:
        InvalidInput: a certificate that the user chose cannot be read.
    """
    path = find_file(directories, host)
    if path is None:
        return _origin(host, makings, None)
    try:
        client = from_hosts(host, makings, read_hosts(path))
    except InvalidInput as error:
        logger.error("mirrors are not used host=%s reason=%s", host, error)  # noqa: TRY400 - ours
        return _origin(host, makings, None)
    logger.info("reading by way of file=%s client=%r", path, client)
    return client


def check_file(path: Path) -> None:
    """Look whether a file can be used, with the certificates that it names.

    Raises:
        InvalidInput: it cannot; the message says where and why.
    """
    makings = Makings(RegistrySettings(), TrustOptions(), NoCredentials())
    host = path.parent.name
    name, _, port = host.removesuffix("_").rpartition("_")
    from_hosts(f"{name}:{port}" if host.endswith("_") else host, makings, read_hosts(path))


def from_hosts(host: str, makings: Makings, hosts: Hosts) -> Client:
    """Return the client that a file describes.

    An entry for the registry's own address says how to speak with it, and its place in the order.

    Raises:
        InvalidInput: a certificate cannot be read.
    """
    listed = [*hosts.mirrors, *([hosts.server] if hosts.server is not None else [])]
    own = next((place for place in listed if is_own(place, host)), None)
    origin = _origin(host, makings, own)
    places: list[ReadingPlace] = []
    for place in listed:
        if not is_own(place, host):
            is_server = place is hosts.server
            client = _mirror(place, host, makings, is_last=is_server)
            places.append(ReadingPlace(client, place.capabilities, is_final=is_server))
        elif place is own:
            places.append(ReadingPlace(origin, ALL, is_final=True))
    if hosts.server is None and own is None:
        places.append(ReadingPlace(origin, ALL, is_final=True))
    if [place.registry for place in places] == [origin]:
        return origin
    return MirroredRegistry(origin, places)


def is_own(place: Place, host: str) -> bool:
    """Tell whether a place is the registry itself."""
    if host in _DOCKER_HUB_HOSTS:
        return place.host in _DOCKER_HUB_HOSTS
    return Endpoint(host).owns(place.url)


def _origin(host: str, makings: Makings, place: Place | None) -> RemoteRegistry:
    """Return the client of the registry itself, as `place` says where there is one."""
    settings = makings.settings
    if place is None:
        settings = _with_trust(settings, makings.trust, host)
        return RemoteRegistry(host, settings, credentials=makings.credentials)
    trust = replace(
        makings.trust,
        is_insecure=makings.trust.is_insecure or place.is_insecure,
        authorities=place.authorities,
        client=place.client,
    )
    settings = replace(
        _with_trust(settings, trust, host),
        headers=(*place.headers, *settings.headers),
        connect_seconds=place.connect_seconds or settings.connect_seconds,
    )
    is_plain = settings.plain_http
    if is_plain is None:
        is_plain = place.url.startswith("http:")
    endpoint = Endpoint(host, plain_http=is_plain, root=place.root)
    return RemoteRegistry(host, settings, credentials=makings.credentials, endpoint=endpoint)


def _mirror(place: Place, host: str, makings: Makings, *, is_last: bool) -> RemoteRegistry:
    """Return the client of a mirror of `host`, or of what stands in for it."""
    trust = TrustOptions(
        makings.trust.ca_file,
        is_insecure=makings.trust.is_insecure or place.is_insecure,
        authorities=place.authorities,
        client=place.client,
    )
    is_plain = place.url.startswith("http:")
    base = makings.settings
    settings = replace(
        _with_trust(base, trust, place.host),
        plain_http=is_plain,
        headers=place.headers,
        connect_seconds=place.connect_seconds or MIRROR_CONNECT_SECONDS,
        retry=base.retry if is_last else MIRROR_RETRY,
    )
    endpoint = Endpoint(place.host, plain_http=is_plain, root=place.root, namespace=host)
    return RemoteRegistry(place.host, settings, credentials=makings.credentials, endpoint=endpoint)


def _with_trust(settings: RegistrySettings, trust: TrustOptions, host: str) -> RegistrySettings:
    return replace(
        settings,
        ssl_context=make_context(trust, host),
        foreign_ssl_context=make_context(trust, host, is_foreign=True),
        verifies_tls=not trust.is_insecure,
    )
