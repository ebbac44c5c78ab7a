"""Bearer tokens as values: what a token service is asked, and what its answer gives. Sans-io.

Owns the two forms of the request, the rules for a realm, and how long a token holds.

Sources: distribution docs/spec/auth/token.md and oauth.md; the realm rules are those of oras-go
v2.6.2 (GHSA-vh4v-2xq2-g5cg).
INVARIANT: a credential goes to no realm that `check_realm` refuses.
"""

import ipaddress
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from orasfs.errors import RegistryFailure
from orasfs.registry.challenge import Challenge
from orasfs.registry.credential import Credential
from orasfs.registry.protocol import Answer
from orasfs.registry.route import is_loopback, origin, without_query
from orasfs.registry.scopes import Scopes, merge

MAX_TOKEN_BYTES = 128 * 1024
DEFAULT_SECONDS = 60.0  # token.md: "defaulting to 60"
MAX_SECONDS = 24 * 3600.0
MARGIN_SECONDS = 10.0
MARGIN_SHARE = 0.1
CLIENT_ID = "orasfs"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """One request to a token service.

    Attributes:
        headers: with the credential, where there is one in a header.
        body: a form for POST, None for GET.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token.

    Attributes:
        authorization: the header's value.
        seconds: for how long it may be used from now, a margin taken off.
    """

    authorization: str = field(repr=False)
    seconds: float


def check_realm(registry_url: str, realm: str) -> None:
    """Refuse a realm that a registry has no business to send credentials to.

    A registry that is spoken with by TLS must not have us speak without. None may have us speak
    with an address of this machine or of a private network, unless it is the registry's own host:
    an address is where attackers point, a company's token service has a name.

    Raises:
        RegistryFailure: it is refused, or no address.
    """
    scheme, host, _ = origin(registry_url)
    realm_scheme, realm_host, _ = origin(realm)
    where = without_query(realm)
    if scheme == "https" and realm_scheme != "https":
        raise RegistryFailure(
            f"token service {where}: not https, although the registry is; no credentials go there"
        )
    if realm_host == host:
        return
    is_of_this_machine = is_loopback(realm_host) and not is_loopback(host)
    if is_of_this_machine or _is_internal_address(realm_host):
        raise RegistryFailure(
            f"token service {where}: an address of this machine or of a private network, and not "
            f"the registry's own host {host}; no credentials go there: the realm that the "
            "registry names must have a host name"
        )


def _is_internal_address(hostname: str) -> bool:
    literal = hostname.strip("[]")
    try:
        address = ipaddress.ip_address(literal)
    except ValueError:
        try:
            # The system's resolver takes more for an address: 127.1, 0x7f000001.
            address = ipaddress.ip_address(socket.inet_aton(literal))
        except OSError:
            return False
    return not address.is_global


def all_scopes(challenge: Challenge, scopes: Scopes) -> tuple[str, ...]:
    """Return the scopes of a request with those that its challenge names."""
    return merge([*scopes, *challenge.parameters.get("scope", "").split()])


def token_request(
    challenge: Challenge, scopes: Scopes, credential: Credential | None
) -> TokenRequest:
    """Return the request for a token; the realm has been checked.

    With an identity token it is a POST (oauth.md), else a GET, with Basic where there is a
    password.
    """
    realm = challenge.parameters["realm"]
    service = challenge.parameters.get("service", "")
    wanted = all_scopes(challenge, scopes)
    if credential is not None and credential.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": CLIENT_ID,
            "scope": " ".join(wanted),
            "refresh_token": credential.identity_token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest("POST", realm, headers, urlencode(form).encode())
    parts = urlsplit(realm)
    query = parse_qsl(parts.query, keep_blank_values=True)
    query += [("service", service)] if service else []
    query += [("scope", scope) for scope in wanted]
    url = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))
    basic = credential.basic if credential is not None else ""
    return TokenRequest("GET", url, {"Authorization": basic} if basic else {})


def token_of(answer: Answer) -> Token:
    """Return the token of a 200 answer.

    Raises:
        RegistryFailure: there is none in it.
    """
    where = f"token service {without_query(answer.url)}"
    try:
        document: Any = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise RegistryFailure(f"{where}: its answer is no JSON") from error
    found = document if isinstance(document, dict) else {}
    text = found.get("access_token") or found.get("token")
    is_text = isinstance(text, str) and text.isascii() and text.isprintable()
    if not text or not is_text:
        raise RegistryFailure(f"{where}: there is no token in its answer")
    return Token(f"Bearer {text}", _usable_seconds(found, answer.headers.get("date", "")))


def _usable_seconds(document: Mapping[str, Any], date: str) -> float:
    """Return how long a token may be used; its age is taken by the service's own clock."""
    seconds = document.get("expires_in")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        seconds = DEFAULT_SECONDS
    left = min(float(seconds), MAX_SECONDS) - _age(document.get("issued_at"), date)
    return max(left - min(MARGIN_SECONDS, MARGIN_SHARE * left), 0.0)


def _age(issued_at: object, date: str) -> float:
    """Return the seconds between two times that the service told; 0 if it told none."""
    if not isinstance(issued_at, str) or not date:
        return 0.0
    try:
        issued, now = datetime.fromisoformat(issued_at), parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return 0.0
    if issued.tzinfo is None or now.tzinfo is None:
        issued, now = issued.replace(tzinfo=UTC), now.replace(tzinfo=UTC)
    return max((now - issued).total_seconds() - 1.0, 0.0)  # Date has no fractions
