"""A fake registry that lets nobody in without the right Authorization, and is strict about it.

with TokenServer(Rules(users={"u": "p"})) as tokens, GuardedRegistry(tokens=tokens) as registry:
    …
    assert registry.refusals == 1
"""

import base64
import json
import time

from orasfs.registry.scopes import repository_of, scopes_of
from tests.fakes.pushable import PushableRegistry
from tests.support.loopback import Exchange
from tests.support.token_server import TokenServer


class GuardedRegistry(PushableRegistry):
    """Wants Basic, or tokens of a token service; `/storage/` is open to all, and wants none.

    Attributes:
        users: passwords by name, where there is no token service.
        hidden: repositories that are answered with 401 even to who may read them, as registries
            do of what does not exist.
        unknown_status: what reading a repository that does not exist is answered with, 401 or
            403, as hosted registries do; 0 is a plain 404. Pushing makes it exist.
        refusals: how many requests were answered with 401.
        leaks: Authorization headers that came to the storage.
    """

    def __init__(
        self,
        tokens: TokenServer | None = None,
        users: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.users = users or {}
        self.hidden: frozenset[str] = frozenset()
        self.unknown_status = 0
        self.refusals = 0
        self.leaks: list[str] = []

    def respond(self, exchange: Exchange) -> None:
        """Let in who may, and answer 401 to others."""
        given = exchange.headers.get("Authorization", "")
        if exchange.path.startswith("/storage/"):
            if given:
                self.leaks.append(given)
            super().respond(exchange)
            return
        if not self._lets_in(exchange.command, exchange.path, given):
            self.refusals += 1
            self._refuse(exchange, 401, "UNAUTHORIZED", "authentication required")
        elif self.unknown_status and self._is_unknown(exchange):
            self._refuse(exchange, self.unknown_status, "DENIED", "requested access is denied")
        else:
            super().respond(exchange)

    def _is_unknown(self, exchange: Exchange) -> bool:
        """Tell whether a request is to read a repository that does not exist."""
        name = repository_of(exchange.path)
        if exchange.command not in ("GET", "HEAD") or "/blobs/uploads/" in exchange.path:
            return False
        return bool(name) and not (self._manifests.get(name) or self._blobs.get(name))

    def _refuse(self, exchange: Exchange, status: int, code: str, message: str) -> None:
        with self._lock:
            self.note(exchange)
        exchange.read_body()
        headers = {"Content-Type": "application/json"}
        if status == 401:
            headers["WWW-Authenticate"] = self._challenge(exchange)
        error = {"code": code, "message": message}
        exchange.answer(status, headers, json.dumps({"errors": [error]}).encode())

    def _challenge(self, exchange: Exchange) -> str:
        if self.tokens is None:
            return 'Basic realm="Registry, \\"here\\""'
        return self.tokens.challenge(" ".join(sorted(scopes_of(exchange.command, exchange.path))))

    def _lets_in(self, method: str, path: str, given: str) -> bool:
        needed = {
            f"{scope.rpartition(':')[0]}:{action}"
            for scope in scopes_of(method, path)
            for action in scope.rpartition(":")[2].split(",")
        }
        if any(scope.split(":")[1] in self.hidden for scope in needed):
            return False
        if self.tokens is not None:
            issued = self.tokens.issued.get(given.removeprefix("Bearer "))
            return (
                issued is not None and issued.until > time.monotonic() and needed <= issued.scopes
            )
        username, _, password = base64.b64decode(given[6:]).decode().partition(":")
        return bool(username) and self.users.get(username) == password
