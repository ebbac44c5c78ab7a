"""Which `Authorization` a request to one registry carries, and what a 401 is answered with.

Owns the flow of authentication: challenges, tokens with their scopes and expiry, Basic, and the
memory of what was refused. Both HTTP paths, and uploads, ask here; see docs/CONCURRENCY.md for
who waits for whom. Thread-safe; whatever may wait is blocking, for worker threads.

INVARIANT: nothing but the registry's own origin is ever answered, and an authorization is made for
that origin only (`orasfs.registry.route` keeps it there).
INVARIANT: of all who want the same token at a time, one asks.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import cachetools

from orasfs.errors import CredentialsRejected, OrasfsError, RegistryFailure, TimedOut
from orasfs.registry import route
from orasfs.registry.challenge import Challenge, parse_challenges
from orasfs.registry.credential import Credential, CredentialFinder
from orasfs.registry.protocol import Answer, Refusal, error_of, error_words
from orasfs.registry.scopes import Scopes, scopes_of
from orasfs.registry.tokens import (
    TokenRequest,
    check_realm,
    token_of,
    token_request,
)

logger = logging.getLogger(__name__)

MAX_TRIES = 3  # of one request, with another authorization each
MAX_GRANTS = 4096
STATIC_SECONDS = 300.0  # then files and helpers are asked again for what does not expire by itself
REFUSED_SECONDS = 10.0  # for which rejected credentials are not tried again
WAIT_SECONDS = 120.0  # for another thread's token: longer than its own deadlines

# Sends a request to a token service or the registry, with retries; follows no redirect.
Exchange = Callable[[TokenRequest, str], Answer]


@dataclass(frozen=True, slots=True)
class Grant:
    """What was obtained for some scopes.

    Attributes:
        authorization: the header's value.
        challenge: which it answers.
        since: when it was asked for, on the authorizer's clock.
        until: when it is no use any more.
        is_static: whether it is what the user has, and not made of it by a token service.
    """

    authorization: str = field(repr=False)
    challenge: Challenge
    since: float
    until: float
    is_static: bool = False


class Authorizer:
    """The authorizations of one registry.

    Args:
        host: `HOST[:PORT]`, as references and credential files name it.
        base_url: returns the registry's URL; may block.
        credentials: the user's.
        exchange: speaks with token services.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        host: str,
        base_url: Callable[[], str],
        credentials: CredentialFinder,
        exchange: Exchange,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._base_url = base_url
        self._credentials = credentials
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._grants: cachetools.LRUCache[Scopes, Grant] = cachetools.LRUCache(MAX_GRANTS)
        self._flights: dict[Scopes, Future[Grant | Refusal]] = {}
        self._basic: Challenge | None = None
        self._rejected: cachetools.TTLCache[Credential, OrasfsError] = cachetools.TTLCache(
            64, REFUSED_SECONDS, timer=clock
        )

    def __repr__(self) -> str:
        return f"Authorizer({self._host})"

    def attempt_now(self, method: str, url: str, repository: str = "") -> "Attempt | None":
        """Return what `attempt` would if that needs no waiting, else None."""
        scopes = scopes_of(method, url, repository)
        grant = self._grant_now(scopes)
        wants_work = self._basic is not None if grant is None else self._is_over(grant)
        return None if wants_work else Attempt(self, scopes, grant)

    def attempt(self, method: str, url: str, repository: str = "") -> "Attempt":
        """Begin a request to the registry. Blocking: a token that has expired is renewed.

        Args:
            method: of the request.
            url: or path; decides on the scopes.
            repository: see `scopes_of`.

        Raises:
            CredentialsRejected: the user's credentials are wrong.
            CredentialsUnusable: they cannot be read.
            RegistryFailure: the token service fails, or is one that gets no credentials.
            Unreachable: it does not answer.
        """
        scopes = scopes_of(method, url, repository)
        grant = self._grant_now(scopes)
        challenge = self._basic if grant is None else grant.challenge
        if challenge is not None and (grant is None or self._is_over(grant)):
            found = self.obtain(scopes, challenge, grant)
            grant = found if isinstance(found, Grant) else None
        return Attempt(self, scopes, grant)

    def _grant_now(self, scopes: Scopes) -> Grant | None:
        """Return what was obtained for these scopes, or for more; it may be over."""
        with self._lock:
            found = self._grants.get(scopes)
            if found is None and any(scope.endswith(":pull,push") for scope in scopes):
                # A mount of a blob asks for two repositories; what follows it needs one of them.
                return next((g for key, g in self._grants.items() if key > scopes), None)
            return found

    def _is_over(self, grant: Grant) -> bool:
        return grant.until <= self._clock()

    def is_fresh(self, grant: Grant) -> bool:
        """Tell whether a grant is in the first half of its life."""
        return self._clock() < (grant.since + grant.until) / 2

    def obtain(
        self, scopes: Scopes, challenge: Challenge, refused: Grant | None
    ) -> Grant | Refusal:
        """Return another grant than the one refused, by asking for it, or with who is asking.

        Raises:
            See `attempt`.
        """
        with self._lock:
            present = self._grants.get(scopes)
            if present is not None and present.until > self._clock() and present is not refused:
                return present
            flight = self._flights.get(scopes)
            is_ours = flight is None
            if flight is None:
                flight = self._flights[scopes] = Future()
        if is_ours:
            self._fly(flight, scopes, challenge, refused)
        try:
            return flight.result(WAIT_SECONDS)
        except TimeoutError as error:
            raise TimedOut(f"{self._host}: no token within {WAIT_SECONDS:g} s") from error
        except OrasfsError as error:
            # A copy: one exception raised in many threads would collect all their tracebacks.
            raise copy.copy(error) from error

    def _fly(
        self,
        flight: "Future[Grant | Refusal]",
        scopes: Scopes,
        challenge: Challenge,
        refused: Grant | None,
    ) -> None:
        """Do the work for all who wait for the flight."""
        outcome: Grant | Refusal | OrasfsError | None = None
        try:
            outcome = self._seek(scopes, challenge, refused)
        except OrasfsError as error:
            outcome = error
        finally:
            self._land(scopes, outcome)
            if isinstance(outcome, Grant | Refusal):
                flight.set_result(outcome)
            else:  # None: what was not foreseen goes on its way, and nobody waits for ever
                flight.set_exception(
                    RegistryFailure(f"{self._host}: no token") if outcome is None else outcome
                )

    def _land(self, scopes: Scopes, found: object) -> None:
        with self._lock:
            del self._flights[scopes]
            if isinstance(found, Grant):
                self._grants[scopes] = found
            else:
                self._grants.pop(scopes, None)

    def _seek(
        self, scopes: Scopes, challenge: Challenge, refused: Grant | None
    ) -> Grant | Refusal:
        credential = self._credentials.find(self._host, _repository_in(scopes))
        if credential is not None:
            self._check_not_rejected(credential)
        if challenge.scheme == "basic" or (credential and credential.registry_token):
            return self._static(challenge, credential, refused)
        return self._bearer(scopes, challenge, credential)

    def _check_not_rejected(self, credential: Credential) -> None:
        with self._lock:
            error = self._rejected.get(credential)
        if error is not None:
            raise copy.copy(error)

    # What the user has is sent as it is

    def _static(
        self, challenge: Challenge, credential: Credential | None, refused: Grant | None
    ) -> Grant | Refusal:
        authorization = _static_authorization(challenge, credential)
        if credential is None or not authorization:
            return Refusal(words=self._nothing_words(challenge, credential))
        if refused is None or refused.authorization != authorization:
            self._basic = challenge if challenge.scheme == "basic" else None
            now = self._clock()
            return Grant(authorization, challenge, now, now + STATIC_SECONDS, is_static=True)
        self._check_known(authorization, credential)
        return Refusal(is_known=True)

    def _nothing_words(self, challenge: Challenge, credential: Credential | None) -> str:
        if credential is None:
            return f"there are no credentials for {self._host}"
        return f"it wants {challenge.scheme.title()}, and {credential.origin} has no password"

    def _check_known(self, authorization: str, credential: Credential) -> None:
        """Tell a wrong password from a name that is refused, by asking for nothing in particular.

        Raises:
            CredentialsRejected: it is wrong.
        """
        url = f"{self._base_url()}/v2/"
        request = TokenRequest("GET", url, {"Authorization": authorization})
        answer = self._exchange(request, self._host)
        if answer.status in (401, 403):
            raise self._reject(credential, answer, self._host)
        if answer.status != 200:
            raise error_of(answer, self._host)

    def _reject(self, credential: Credential, answer: Answer, where: str) -> CredentialsRejected:
        code, words = error_words(answer)
        message = f"{where}: does not take the credentials of {credential.origin or 'the user'}"
        message += f" ({answer.status}){': ' if words else ''}{words}"
        error = CredentialsRejected(message, status=answer.status, code=code)
        with self._lock:
            self._rejected[credential] = error
        logger.warning("credentials rejected host=%s by=%s", self._host, where)
        return error

    # A token service makes a token of it

    def _bearer(
        self, scopes: Scopes, challenge: Challenge, credential: Credential | None
    ) -> Grant | Refusal:
        realm = challenge.parameters["realm"]
        check_realm(self._base_url(), realm)
        where = f"token service {route.without_query(realm)}"
        asked_at = self._clock()
        answer = self._exchange(token_request(challenge, scopes, credential), where)
        if answer.status == 200:
            token = token_of(answer)
            return Grant(token.authorization, challenge, asked_at, asked_at + token.seconds)
        if answer.status not in (400, 401, 403):
            raise error_of(answer, where)
        words = error_words(answer)[1]
        if credential is None:
            return Refusal(words=f"{where}: {words or 'no token without credentials'}")
        if answer.status == 403 and self._are_good(challenge, credential, where):
            return Refusal(is_known=True, words=words)
        raise self._reject(credential, answer, where)

    def _are_good(self, challenge: Challenge, credential: Credential, where: str) -> bool:
        """Tell whether credentials get a token for nothing in particular."""
        bare = {key: text for key, text in challenge.parameters.items() if key != "scope"}
        request = token_request(Challenge(challenge.scheme, bare), frozenset(), credential)
        return self._exchange(request, where).status == 200


def _static_authorization(challenge: Challenge, credential: Credential | None) -> str:
    if credential is None:
        return ""
    if challenge.scheme == "bearer":
        return f"Bearer {credential.registry_token}"
    return credential.basic


def _repository_in(scopes: Scopes) -> str:
    """Return the repository that a request writes to, or reads."""
    names = sorted(
        (not scope.endswith(":pull,push"), scope.split(":", 1)[1].rpartition(":")[0])
        for scope in scopes
        if scope.startswith("repository:")
    )
    return names[0][1] if names else ""


class Attempt:
    """One request to the registry, sent again while another authorization may help.

    Used by one thread or task at a time: send with `headers`, and again while `renews` says so of
    a 401 of the registry's own origin.
    """

    def __init__(self, authorizer: Authorizer, scopes: Scopes, grant: Grant | None) -> None:
        self._authorizer = authorizer
        self._scopes = scopes
        self._grant = grant
        self._tries = 1
        self.refusal = Refusal()

    @property
    def headers(self) -> dict[str, str]:
        """The header to send, none without authorization."""
        return {"Authorization": self._grant.authorization} if self._grant is not None else {}

    def renews(self, challenges: str) -> bool:
        """Tell whether to send once more, after a 401. Blocking.

        Args:
            challenges: the WWW-Authenticate header.

        Raises:
            See `Authorizer.attempt`.
        """
        challenge = _choose(parse_challenges(challenges))
        if challenge is None:
            return False
        if self._tries >= MAX_TRIES or self._is_refused_for_good():
            self.refusal = Refusal(is_known=True)
            return False
        found = self._authorizer.obtain(self._scopes, challenge, self._grant)
        if isinstance(found, Refusal):
            self.refusal = found
            return False
        self._tries += 1
        self._grant = found
        return True

    def _is_refused_for_good(self) -> bool:
        """Tell whether a token was refused that had just been issued for this."""
        if self._grant is None or self._grant.is_static:
            return False
        return self._tries > 1 and self._authorizer.is_fresh(self._grant)


def _choose(challenges: tuple[Challenge, ...]) -> Challenge | None:
    """Return the challenge to answer: a token rather than a password."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
            return challenge
    for challenge in challenges:
        if challenge.scheme == "basic":
            return challenge
    return None
