"""A credential of one registry, and who can find it.

Values only. INVARIANT: no secret is in a `repr`, so none gets into a log or a traceback.
"""

import base64
from dataclasses import dataclass, field, replace
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credential:
    """What a user has for a registry: a password, a refresh token or a bearer token.

    Attributes:
        username: "" where there is none.
        password: goes with the user name.
        identity_token: an OAuth2 refresh token; it wins over a password.
        registry_token: a bearer token that is used as it is; it wins over all.
        origin: where it was found, in words for a message.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    origin: str = ""

    @property
    def basic(self) -> str:
        """The `Authorization` of RFC 7617, "" without user name and password."""
        if not self.username or not self.password:
            return ""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"

    def named(self, origin: str) -> "Credential":
        """Return the same with the place where it was found."""
        return replace(self, origin=origin)


class CredentialFinder(Protocol):
    """Knows the user's credentials."""

    def find(self, host: str, repository: str) -> Credential | None:
        """Return the credential for a repository ("": for the registry as such), None if none.

        Blocking, for worker threads; called from several at once.

        Args:
            host: `HOST[:PORT]` as references name it.
            repository: its full name on the registry.

        Raises:
            CredentialsUnusable: there may be one, and it cannot be read; the message says why.
        """
        ...


class NoCredentials:
    """Implements `CredentialFinder` for who has none."""

    def find(self, host: str, repository: str) -> Credential | None:  # noqa: ARG002 - the port's
        """Find nothing."""
        return None
