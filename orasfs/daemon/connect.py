"""From a mount's options to the clients of its registries.

Owns which credentials, trust and headers the client of a host gets: what was given on the command
line is for the one registry that SOURCE names, and for no other.
"""

from collections.abc import Callable

from orasfs.daemon.config import MountConfig
from orasfs.daemon.places import Client, Makings, make_client
from orasfs.errors import InvalidInput
from orasfs.registry import route
from orasfs.registry.credential import Credential, CredentialFinder
from orasfs.registry.credentials import GivenCredential, user_credentials
from orasfs.registry.hosts import DIRECTORIES
from orasfs.registry.settings import RegistrySettings
from orasfs.registry.trust import TrustOptions, make_context
from orasfs.vfs.root import ArtifactRoot, NamespaceRoot, RegistryRoot, RootSpecification

GIVEN = "the command line"


def named_host(root: RootSpecification) -> str:
    """Return the host of the one registry that a mount shows, "" if there is no such."""
    return root.host if isinstance(root, RegistryRoot | NamespaceRoot | ArtifactRoot) else ""


def connector(config: MountConfig, root: RootSpecification) -> Callable[[str], Client]:
    """Return what makes the client of a host.

    Raises:
        InvalidInput: there are credentials or headers, and no one registry that they are for; a
            certificate cannot be read; the environment's proxy is of a kind that cannot be used.
    """
    named = named_host(root)
    secrets = config.secrets
    if (secrets.has_credential or secrets.headers) and not named:
        raise InvalidInput("credentials and headers: SOURCE must name the registry they are for")
    credentials: CredentialFinder = user_credentials(config.credential_files)
    if secrets.has_credential:
        given = Credential(
            secrets.username, secrets.password, secrets.identity_token, origin=GIVEN
        )
        credentials = GivenCredential(named, given, credentials)
    trust = TrustOptions(
        config.ca_file, config.cert_file, config.key_file, is_insecure=config.is_insecure
    )

    addresses = {(host, port): (to, to_port) for host, port, to, to_port in config.addresses}

    def connect(host: str) -> Client:
        settings = RegistrySettings(
            plain_http=config.plain_http,
            concurrency=config.concurrency,
            headers=secrets.headers if host == named else (),
            addresses=addresses,
        )
        makings = Makings(settings, trust, credentials)
        return make_client(host, makings, config.hosts_directories or DIRECTORIES)

    make_context(trust, named or "localhost")  # what cannot be read is said before mounting
    if named:
        route.proxy_for(f"{'http' if config.plain_http else 'https'}://{named}/")
    return connect
