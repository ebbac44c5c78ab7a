"""What of a mount's options is secret, and how it reaches the daemon's process.

Owns its form on the pipe between the command and the daemon: never a command line, never the
environment, where other programs could see it.

INVARIANT: no secret is in a `repr`, and none is in a dataclass that could be turned into text.
"""

import json
from collections.abc import Iterable

from orasfs.errors import InvalidInput

MAX_BYTES = 32 * 1024  # less than a pipe holds: writing it waits for nobody


class MountSecrets:
    """Credentials and headers that were given on the command line.

    Attributes:
        username, password, identity_token: "" where not given.
        headers: (name, value) of headers for the registry.
    """

    __slots__ = ("headers", "identity_token", "password", "username")

    def __init__(
        self,
        username: str = "",
        password: str = "",
        identity_token: str = "",
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        self.username = username
        self.password = password
        self.identity_token = identity_token
        self.headers = tuple((str(name), str(value)) for name, value in headers)

    def __repr__(self) -> str:
        return "MountSecrets()"

    @property
    def has_credential(self) -> bool:
        """Whether there is something to authenticate with."""
        return bool(self.password or self.identity_token)

    def to_bytes(self) -> bytes:
        """Return the form for the pipe, b"" if there is nothing to tell.

        Raises:
            InvalidInput: it is too long.
        """
        if not self.has_credential and not self.headers:
            return b""
        fields = [self.username, self.password, self.identity_token, self.headers]
        form = json.dumps(fields).encode()
        if len(form) > MAX_BYTES:
            raise InvalidInput(f"credentials and headers: longer than {MAX_BYTES} bytes")
        return form

    @classmethod
    def from_bytes(cls, form: bytes) -> "MountSecrets":
        """Return what `to_bytes` was made of."""
        return cls(*json.loads(form)) if form else cls()


def parse_header(text: str) -> tuple[str, str]:
    """Split `NAME: VALUE`.

    Raises:
        InvalidInput: it is no header; the message has no value in it.
    """
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    is_token = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    if not colon or not is_token or not value.isprintable() or not value.isascii():
        raise InvalidInput(f"header {name[:80]!r}: expected NAME: VALUE")
    return name, value
