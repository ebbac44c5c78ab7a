"""A token service for tests: signed JWTs as docker-registry wants them, by GET and by POST.

Source: distribution docs/spec/auth (token.md, oauth.md, jwt.md). Every token it issues is noted
with what it grants, so that a fake registry can check it without reading JWTs.
"""

import base64
import json
import ssl
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import load_pem_x509_certificate

from tests.support.loopback import Exchange, LoopbackServer

SERVICE = "registry.test"
ISSUER = "tokens.test"


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was issued: to whom, for what, and until when (monotonic seconds)."""

    account: str
    scopes: frozenset[str]
    until: float


class Signer:
    """Signs with RS256, and brings the certificate that docker-registry checks it by."""

    def __init__(self) -> None:
        self._authority = trustme.CA(key_type=trustme.KeyType.RSA)
        leaf = self._authority.issue_cert("tokens.test", key_type=trustme.KeyType.RSA)
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        self._key = key
        certificate = load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        self._der = certificate.public_bytes(serialization.Encoding.DER)

    def write_bundle(self, path: Path) -> Path:
        """Write the certificate of the authority."""
        self._authority.cert_pem.write_to_path(path)
        return path

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a JWT."""
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(self._der).decode()]}
        text = ".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_encoded(signature)}"


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


@dataclass
class Rules:
    """What the service does.

    Attributes:
        users: passwords by name.
        refresh_tokens: names by refresh token.
        allows_anonymous: whether anybody may pull.
        pushes: whether users may push and delete.
        seconds: the life of a token, as it is said and as it is.
        denied: repositories that a token is refused for, with 403.
        delay_seconds: before an answer.
        failures: statuses that the next requests are answered with.
    """

    users: dict[str, str] = field(default_factory=dict)
    refresh_tokens: dict[str, str] = field(default_factory=dict)
    allows_anonymous: bool = False
    pushes: bool = True
    seconds: float = 300.0
    denied: frozenset[str] = frozenset()
    delay_seconds: float = 0.0
    failures: list[int] = field(default_factory=list)


class TokenServer(LoopbackServer):
    """The service.

    Attributes:
        requests: (method, parameters, Authorization) of each request.
        issued: by token.
    """

    def __init__(self, rules: Rules, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.rules = rules
        self.signer = Signer()
        self.requests: list[tuple[str, dict[str, list[str]], str]] = []
        self.issued: dict[str, Issued] = {}
        self._scheme = "https" if tls else "http"
        self._lock = threading.Lock()

    @property
    def realm(self) -> str:
        """The address to ask."""
        return f"{self._scheme}://{self.host}/token"

    def challenge(self, scope: str = "") -> str:
        """Return a WWW-Authenticate header that leads here."""
        suffix = f',scope="{scope}"' if scope else ""
        return f'Bearer realm="{self.realm}",service="{SERVICE}"{suffix}'

    def respond(self, exchange: Exchange) -> None:
        """Issue a token, or refuse."""
        is_post = exchange.command == "POST"
        body = exchange.read_body().decode()
        query = parse_qs(body if is_post else urlsplit(exchange.path).query)
        authorization = exchange.headers.get("Authorization", "")
        with self._lock:
            self.requests.append((exchange.command, query, authorization))
            failure = self.rules.failures.pop(0) if self.rules.failures else 0
        if self.rules.delay_seconds:
            self.stopping.wait(self.rules.delay_seconds)
        if failure:
            exchange.answer(failure, {}, b"not now")
            return
        account = self._account(query) if is_post else self._basic(authorization)
        if account is None or (not account and not self.rules.allows_anonymous):
            _refuse(exchange, 401, "incorrect username or password")
            return
        wanted = frozenset(part for text in query.get("scope", []) for part in text.split())
        if any(scope.split(":")[1] in self.rules.denied for scope in wanted):
            _refuse(exchange, 403, "requested access to the resource is denied")
            return
        self._issue(exchange, account, wanted, "access_token" if is_post else "token")

    def _account(self, form: dict[str, list[str]]) -> str | None:
        if form.get("grant_type") != ["refresh_token"] or not form.get("client_id"):
            return None
        return self.rules.refresh_tokens.get(form.get("refresh_token", [""])[0])

    def _basic(self, authorization: str) -> str | None:
        if not authorization:
            return ""
        username, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        return username if self.rules.users.get(username) == password else None

    def _issue(self, exchange: Exchange, account: str, wanted: frozenset[str], name: str) -> None:
        may_write = bool(account) and self.rules.pushes
        access, granted = [], set()
        for scope in sorted(wanted):
            kind, _, rest = scope.partition(":")
            resource, _, words = rest.rpartition(":")
            actions = [w for w in words.split(",") if w == "pull" or may_write]
            access.append({"type": kind, "name": resource, "actions": actions})
            granted |= {f"{kind}:{resource}:{action}" for action in actions}
        now = time.time()
        claims = {
            "iss": ISSUER,
            "sub": account,
            "aud": SERVICE,
            "nbf": int(now) - 5,
            "iat": int(now),
            "exp": int(now + self.rules.seconds) + 1,
            "jti": uuid.uuid4().hex,
            "access": access,
        }
        token = self.signer.sign(claims)
        with self._lock:
            until = time.monotonic() + self.rules.seconds
            self.issued[token] = Issued(account, frozenset(granted), until)
        document = {
            name: token,
            "expires_in": self.rules.seconds,
            "issued_at": datetime.fromtimestamp(now, UTC).isoformat(),
        }
        exchange.answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def _refuse(exchange: Exchange, status: int, message: str) -> None:
    code = "UNAUTHORIZED" if status == 401 else "DENIED"
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    exchange.answer(status, {"Content-Type": "application/json"}, body)
