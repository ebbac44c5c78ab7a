"""Whom to trust by TLS, and who to be: certificates from options and from `certs.d` directories.

Owns which files make the contexts of a registry; both HTTP paths share them through
`RegistrySettings`. Reads files, and makes no request.

INVARIANT: a client certificate is in the context for the registry's own origin only. A server that
the registry redirects to learns by it who asks, and could use it no worse than a password.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orasfs.errors import InvalidInput

# Of docker, of podman and skopeo, and of containerd.
CERTIFICATES = tuple(
    Path("/etc") / name / "certs.d" for name in ("docker", "containers", "containerd")
)


@dataclass(frozen=True, slots=True)
class TrustOptions:
    """What the user chose.

    Attributes:
        ca_file: PEM certificates of authorities to trust besides the system's.
        cert_file: PEM certificate to show to the registry; may contain the key.
        key_file: its PEM key.
        is_insecure: whether nothing is verified.
        authorities: more such files as `ca_file`.
        client: (certificate, key) to show; those of the options above win.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    is_insecure: bool = False
    authorities: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path], ...] = ()


def make_context(
    options: TrustOptions,
    host: str,
    *,
    certificates: Sequence[Path] = CERTIFICATES,
    is_foreign: bool = False,
) -> ssl.SSLContext | None:
    """Return the TLS context for a registry; None if the system's certificates are all there is.

    Below each of `certificates` is a directory for each `HOST[:PORT]`, with authorities in
    `*.crt`, and pairs of `NAME.cert` and `NAME.key` (dockerd, "certs.d"; containers-certs.d(5);
    containerd docs/hosts.md). The context for all other hosts that the registry leads to,
    `is_foreign`, trusts the same and shows nothing.

    Raises:
        InvalidInput: a file cannot be read, or is no certificate.
    """
    found = [path for each in certificates for path in sorted((each / host).glob("*"))]
    authorities = [path for path in found if path.suffix == ".crt"]
    pairs = [(path, path.with_suffix(".key")) for path in found if path.suffix == ".cert"]
    authorities += options.authorities
    pairs += options.client
    if options.ca_file is not None:
        authorities.append(options.ca_file)
    if options.cert_file is not None:
        pairs = [(options.cert_file, options.key_file or options.cert_file)]
    if is_foreign:
        pairs = []
    if not authorities and not pairs and not options.is_insecure:
        return None
    context = ssl.create_default_context()
    for path in authorities:
        _trust(context, path)
    for certificate, key in pairs:
        _present(context, certificate, key)
    if options.is_insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _trust(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise InvalidInput(f"{path}: no certificates in PEM form") from error
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error


def _present(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    def refuse() -> str:  # asked for where a key is encrypted: a daemon has nobody to ask
        raise InvalidInput(f"{key}: encrypted; a key without a passphrase is needed")

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        raise InvalidInput(f"{certificate}: not a certificate with its key {key}") from error
    except OSError as error:
        raise InvalidInput(f"{certificate}, {key}: {error.strerror}") from error
