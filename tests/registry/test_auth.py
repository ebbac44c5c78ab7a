"""The flow of authentication over both HTTP paths, against a strict fake registry."""

import base64
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import trio

from orasfs.errors import (
    CredentialsRejected,
    Forbidden,
    NotFound,
    RegistryFailure,
    Unauthorized,
    Unsupported,
)
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.registry.client import RemoteRegistry, RemoteRepository
from orasfs.registry.credential import Credential
from orasfs.registry.retry import RetryPolicy
from orasfs.registry.settings import RegistrySettings
from tests.conftest import ExpectLog
from tests.fakes.guarded import GuardedRegistry
from tests.fakes.registry import FakeRegistry
from tests.support.content import Memory, ignore, never
from tests.support.publish import OCI_INDEX, manifest_of
from tests.support.token_server import Rules, TokenServer

SECRET = "swordfish-7f3a"  # noqa: S105 - of no account
CONTENT = bytes(range(256)) * 4000
BLOB = Descriptor("application/octet-stream", Digest.of(CONTENT), len(CONTENT))
RAW = manifest_of()
SETTINGS = RegistrySettings(retry=RetryPolicy(attempts=3, base_seconds=0.01))


class Wallet:
    """The user's credentials; counts the questions."""

    def __init__(self, credential: Credential | None = None) -> None:
        self.credential = credential
        self.questions: list[tuple[str, str]] = []

    def find(self, host: str, repository: str) -> Credential | None:
        self.questions.append((host, repository))
        return self.credential


USER = Credential("user", SECRET, origin="the test")
WRONG = Credential("user", "wrong", origin="the test")


def fill(registry: FakeRegistry) -> None:
    registry.put_blob("a/b", CONTENT)
    registry.put_manifest("a/b", "v1", RAW)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    rules = Rules(users={"user": SECRET}, refresh_tokens={"refresh": "user"})
    with TokenServer(rules) as server:
        yield server


@pytest.fixture
def bearer(tokens: TokenServer) -> Iterator[GuardedRegistry]:
    with GuardedRegistry(tokens) as registry:
        fill(registry)
        yield registry


@pytest.fixture
def basic() -> Iterator[GuardedRegistry]:
    with GuardedRegistry(users={"user": SECRET}) as registry:
        fill(registry)
        yield registry


@pytest.fixture
def wallet() -> Wallet:
    return Wallet(USER)


Connect = Callable[[FakeRegistry], RemoteRegistry]


@pytest.fixture
async def connect(wallet: Wallet) -> AsyncIterator[Connect]:
    made: list[RemoteRegistry] = []

    def make(registry: FakeRegistry) -> RemoteRegistry:
        made.append(RemoteRegistry(registry.host, SETTINGS, credentials=wallet))
        return made[-1]

    yield make
    for remote in made:
        await remote.aclose()


def read_blob(repository: RemoteRepository, start: int = 0, stop: int | None = None) -> bytes:
    stream = repository.open_stream(BLOB, start, stop)
    buffer = memoryview(bytearray(100_000))
    found = bytearray()
    try:
        while count := stream.readinto(buffer):
            found += buffer[:count]
    finally:
        stream.close()
    return bytes(found)


async def in_thread(repository: RemoteRepository) -> bytes:
    return await trio.to_thread.run_sync(read_blob, repository)


# Basic


async def test_basic_opens_both_paths(
    basic: GuardedRegistry, connect: Connect, wallet: Wallet
) -> None:
    repository = connect(basic).repository("a/b")
    assert (await repository.resolve("v1")).digest == Digest.of(RAW)
    assert await in_thread(repository) == CONTENT
    assert basic.refusals == 1
    assert wallet.questions == [(basic.host, "a/b")]


async def test_basic_that_is_known_is_sent_at_once_to_other_repositories(
    basic: GuardedRegistry, connect: Connect
) -> None:
    remote = connect(basic)
    await remote.repository("a/b").resolve("v1")
    with pytest.raises(NotFound):
        await remote.repository("c").resolve("v1")
    assert basic.refusals == 1


async def test_wrong_password_is_rejected_in_words_and_not_tried_again_at_once(
    basic: GuardedRegistry, connect: Connect, wallet: Wallet, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "credentials rejected")
    wallet.credential = WRONG
    repository = connect(basic).repository("a/b")
    for _ in range(3):
        with pytest.raises(CredentialsRejected, match=r"the test.*authentication required"):
            await repository.resolve("v1")
    with pytest.raises(CredentialsRejected):
        await in_thread(repository)
    given = [h["authorization"] for h in basic.request_headers if "authorization" in h]
    assert len(given) == 2  # the request, and the question whether the password is good


async def test_a_password_that_changes_is_taken_up(
    basic: GuardedRegistry, connect: Connect, wallet: Wallet, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "credentials rejected")
    repository = connect(basic).repository("a/b")
    assert await in_thread(repository) == CONTENT
    basic.users["user"] = "new"
    with pytest.raises(CredentialsRejected):
        await repository.resolve("v1")
    wallet.credential = Credential("user", "new")
    assert await in_thread(repository) == CONTENT
    await repository.resolve("v1")


async def test_name_refused_although_the_password_is_good_is_forbidden(
    basic: GuardedRegistry, connect: Connect
) -> None:
    basic.hidden = frozenset({"secret/x"})
    remote = connect(basic)
    with pytest.raises(Forbidden, match="401"):
        await remote.repository("secret/x").resolve("v1")
    with pytest.raises(Forbidden):
        await in_thread(remote.repository("secret/x"))


async def test_without_credentials_the_registry_says_what_it_wants(
    basic: GuardedRegistry, connect: Connect, wallet: Wallet
) -> None:
    wallet.credential = None
    repository = connect(basic).repository("a/b")
    with pytest.raises(Unauthorized, match="no credentials for 127"):
        await repository.resolve("v1")
    with pytest.raises(Unauthorized, match="no credentials for 127"):
        await in_thread(repository)


async def test_identity_token_is_no_password(
    basic: GuardedRegistry, connect: Connect, wallet: Wallet
) -> None:
    wallet.credential = Credential(identity_token="refresh", origin="a file")  # noqa: S106 - of no account
    with pytest.raises(Unauthorized, match="a file has no password"):
        await connect(basic).repository("a/b").resolve("v1")


# Bearer


async def test_one_token_opens_both_paths(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    repository = connect(bearer).repository("a/b")
    assert (await repository.resolve("v1")).digest == Digest.of(RAW)
    assert await in_thread(repository) == CONTENT
    assert bearer.refusals == 1
    [(method, query, authorization)] = tokens.requests
    assert method == "GET"
    assert query == {"service": ["registry.test"], "scope": ["repository:a/b:pull"]}
    assert base64.b64decode(authorization.removeprefix("Basic ")).decode() == f"user:{SECRET}"


async def test_identity_token_is_exchanged_by_post(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect, wallet: Wallet
) -> None:
    wallet.credential = Credential(identity_token="refresh")  # noqa: S106 - of no account
    assert await in_thread(connect(bearer).repository("a/b")) == CONTENT
    [(method, form, authorization)] = tokens.requests
    assert (method, authorization) == ("POST", "")
    assert form == {
        "grant_type": ["refresh_token"],
        "service": ["registry.test"],
        "client_id": ["orasfs"],
        "scope": ["repository:a/b:pull"],
        "refresh_token": ["refresh"],
    }


async def test_registry_token_is_used_as_it_is(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect, wallet: Wallet
) -> None:
    await connect(bearer).repository("a/b").resolve("v1")
    [token] = tokens.issued
    tokens.requests.clear()
    wallet.credential = Credential(registry_token=token)
    assert await in_thread(connect(bearer).repository("a/b")) == CONTENT
    assert tokens.requests == []


async def test_registry_token_that_is_not_taken_is_rejected(
    bearer: GuardedRegistry, connect: Connect, wallet: Wallet, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "credentials rejected")
    wallet.credential = Credential(registry_token="stale")  # noqa: S106 - of no account
    with pytest.raises(CredentialsRejected):
        await connect(bearer).repository("a/b").resolve("v1")


async def test_anybody_gets_a_token_where_that_is_allowed(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect, wallet: Wallet
) -> None:
    wallet.credential = None
    tokens.rules.allows_anonymous = True
    assert await in_thread(connect(bearer).repository("a/b")) == CONTENT
    assert tokens.requests[0][2] == ""


async def test_no_token_without_credentials_says_so(
    bearer: GuardedRegistry, connect: Connect, wallet: Wallet
) -> None:
    wallet.credential = None
    remote = connect(bearer)
    with pytest.raises(Unauthorized, match=r"token service http://127.*incorrect username"):
        await remote.repository("a/b").resolve("v1")
    with pytest.raises(Unsupported):
        await remote.list_repositories()


@pytest.mark.parametrize(
    "credential",
    [WRONG, Credential(identity_token="wrong", origin="the test")],  # noqa: S106 - of no account
)
async def test_wrong_credentials_are_rejected_with_the_words_of_the_token_service(
    bearer: GuardedRegistry,
    tokens: TokenServer,
    connect: Connect,
    wallet: Wallet,
    credential: Credential,
    expect_log: ExpectLog,
) -> None:
    expect_log(logging.WARNING, "credentials rejected")
    wallet.credential = credential
    repository = connect(bearer).repository("a/b")
    for _ in range(3):
        with pytest.raises(CredentialsRejected, match="incorrect username or password"):
            await repository.resolve("v1")
    assert len(tokens.requests) == 1


async def test_token_refused_for_a_name_is_forbidden_if_the_password_is_good(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    tokens.rules.denied = frozenset({"x"})
    with pytest.raises(Forbidden, match="requested access to the resource is denied"):
        await connect(bearer).repository("x").resolve("v1")


async def test_name_refused_with_a_new_token_is_forbidden(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    bearer.hidden = frozenset({"x"})
    repository = connect(bearer).repository("x")
    with pytest.raises(Forbidden):
        await repository.resolve("v1")
    assert len(tokens.requests) == 1
    with pytest.raises(Forbidden):
        await in_thread(repository)


async def test_scopes_of_the_challenge_are_asked_for_too(
    tokens: TokenServer, connect: Connect
) -> None:
    challenge = tokens.challenge("repository:a/b:special registry:other:*")
    with FakeRegistry() as registry:
        fill(registry)
        registry.fail("/manifests/", status=401, headers={"WWW-Authenticate": challenge})
        await connect(registry).repository("a/b").resolve("v1")
        assert registry.request_headers[-1]["authorization"].startswith("Bearer ey")
    [(_, query, _)] = tokens.requests
    assert query["scope"] == ["registry:other:*", "repository:a/b:pull,special"]


async def test_many_waiters_share_one_token(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    tokens.rules.delay_seconds = 0.3
    repository = connect(bearer).repository("a/b")
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(repository.resolve, "v1")
            nursery.start_soon(in_thread, repository)
    assert len(tokens.requests) == 1


async def test_token_that_is_over_is_renewed_before_it_is_sent(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    remote = connect(bearer)
    repository = remote.repository("a/b")
    await repository.resolve("v1")
    remote._transport._authorizer._clock = lambda: time.monotonic() + 600
    await repository.resolve("v1")
    assert (len(tokens.requests), bearer.refusals) == (2, 1)


async def test_token_that_was_revoked_is_renewed_when_it_is_refused(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    repository = connect(bearer).repository("a/b")
    await repository.resolve("v1")
    tokens.issued.clear()
    assert await in_thread(repository) == CONTENT
    tokens.issued.clear()
    await repository.resolve("v1")
    assert len(tokens.requests) == 3


async def test_stream_that_breaks_goes_on_with_another_token(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    repository = connect(bearer).repository("a/b")
    bearer.fail("/blobs/", truncate_after=300_000, times=1)
    stream = await trio.to_thread.run_sync(repository.open_stream, BLOB)
    tokens.issued.clear()
    buffer = memoryview(bytearray(len(CONTENT)))
    received = 0
    while count := await trio.to_thread.run_sync(stream.readinto, buffer[received:]):
        received += count
    stream.close()
    assert bytes(buffer[:received]) == CONTENT
    assert len(tokens.requests) == 2


async def test_token_service_that_fails_in_passing_is_asked_again(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    tokens.rules.failures = [503, 500]
    await connect(bearer).repository("a/b").resolve("v1")
    assert len(tokens.requests) == 3


async def test_token_service_that_fails_for_good_is_no_missing_name(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    tokens.rules.failures = [500] * 50
    with pytest.raises(RegistryFailure, match="token service"):
        await connect(bearer).repository("a/b").resolve("v1")


# Uploads


async def push(repository: RemoteRepository, content: Memory) -> None:
    await trio.to_thread.run_sync(repository.push_blob, content.descriptor, content, ignore, never)


@pytest.mark.parametrize("kind", ["basic", "bearer"])
async def test_a_blob_and_a_manifest_are_pushed(
    kind: str, request: pytest.FixtureRequest, connect: Connect
) -> None:
    registry: GuardedRegistry = request.getfixturevalue(kind)
    repository = connect(registry).repository("new/one")
    content = Memory(b"pushed" * 1000)
    await push(repository, content)
    assert await repository.has_blob(content.descriptor)
    index = b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % OCI_INDEX.encode()
    await repository.push_manifest(index, OCI_INDEX, "v2")
    assert (await repository.resolve("v2")).digest == Digest.of(index)
    assert content.opened == 1


async def test_a_push_asks_for_its_scopes_once(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    await push(connect(bearer).repository("new/one"), Memory(b"x"))
    assert [query["scope"] for _, query, _ in tokens.requests] == [
        ["repository:new/one:pull,push"]
    ]


async def test_an_upload_whose_token_ends_in_between_goes_on(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    repository = connect(bearer).repository("new/one")
    content = Memory(b"pushed" * 100_000)
    await push(repository, Memory(b"x"))
    offsets: list[int] = []

    def expire(offset: int) -> None:
        if not offsets:
            tokens.issued.clear()
        offsets.append(offset)

    await trio.to_thread.run_sync(repository.push_blob, content.descriptor, content, expire, never)
    assert (offsets[0], offsets[-1], content.opened) == (0, content.size, 2)
    assert await repository.has_blob(content.descriptor)


async def test_a_push_that_is_not_allowed_is_forbidden(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    tokens.rules.pushes = False
    with pytest.raises(Forbidden):
        await push(connect(bearer).repository("new/one"), Memory(b"x"))


async def test_an_upload_session_on_another_host_gets_nothing(
    bearer: GuardedRegistry, connect: Connect
) -> None:
    with GuardedRegistry(users={"user": SECRET}) as thief:
        bearer.locations = f"http://{thief.host}"
        with pytest.raises(RegistryFailure):
            await push(connect(bearer).repository("new/one"), Memory(b"x"))
        assert thief.requests == []


# Where credentials do not go


async def test_storage_on_another_port_gets_no_authorization(
    bearer: GuardedRegistry, connect: Connect
) -> None:
    with GuardedRegistry() as storage:
        fill(storage)
        bearer.blob_location = f"http://{storage.host}/storage/"
        assert await in_thread(connect(bearer).repository("a/b")) == CONTENT
        assert storage.count(path="/storage/") == 1
        assert storage.leaks == []


async def test_challenge_of_a_redirect_target_is_not_answered(
    bearer: GuardedRegistry, tokens: TokenServer, connect: Connect
) -> None:
    with GuardedRegistry(users={"user": SECRET}) as thief:
        bearer.blob_location = f"http://{thief.host}/v2/a/b/blobs/"
        repository = connect(bearer).repository("a/b")
        with pytest.raises(RegistryFailure, match=r"the storage .* refuses"):
            await in_thread(repository)
        location = {"Location": f"http://{thief.host}/v2/"}
        bearer.fail("/manifests/", status=307, headers=location, times=3)
        with pytest.raises(RegistryFailure, match=r"the storage .* refuses"):
            await repository.resolve("v1")
        assert all("authorization" not in headers for headers in thief.request_headers)
    assert len(tokens.requests) == 1


async def test_token_service_that_redirects_is_not_followed(
    tokens: TokenServer, connect: Connect
) -> None:
    with FakeRegistry() as registry:
        realm = f"http://{registry.host}/token"
        registry.fail("/v2/", status=401, headers={"WWW-Authenticate": f'Bearer realm="{realm}"'})
        registry.fail("/token", status=307, headers={"Location": tokens.realm})
        with pytest.raises(RegistryFailure, match="307"):
            await connect(registry).repository("a/b").resolve("v1")
    assert tokens.requests == []


async def test_no_secret_is_logged_or_told(
    bearer: GuardedRegistry,
    tokens: TokenServer,
    connect: Connect,
    wallet: Wallet,
    caplog: pytest.LogCaptureFixture,
    expect_log: ExpectLog,
) -> None:
    expect_log(logging.WARNING, "credentials rejected")
    caplog.set_level(logging.DEBUG)
    remote = connect(bearer)
    repository = remote.repository("a/b")
    assert await in_thread(repository) == CONTENT
    await repository.resolve("v1")
    bearer.hidden = frozenset({"a/b"})
    with pytest.raises(Forbidden) as forbidden:
        await repository.resolve("v1")
    tokens.rules.users = {}
    tokens.issued.clear()
    wallet.credential = Credential("user", SECRET, SECRET)
    with pytest.raises(CredentialsRejected) as rejected:
        await repository.resolve("v1")
    assert "token" in caplog.text
    secrets = [SECRET, base64.b64encode(f"user:{SECRET}".encode()).decode(), "eyJ"]
    errors = [forbidden.value, rejected.value]
    texts = [caplog.text, repr(remote), *(f"{error} {error!r}" for error in errors)]
    for secret in secrets:
        assert not any(secret in text for text in texts)


def test_threads_that_wait_share_a_failure_without_sharing_the_exception(
    bearer: GuardedRegistry, tokens: TokenServer, wallet: Wallet, expect_log: ExpectLog
) -> None:
    expect_log(logging.WARNING, "credentials rejected")
    wallet.credential = WRONG
    tokens.rules.delay_seconds = 0.3
    repository = RemoteRegistry(bearer.host, SETTINGS, credentials=wallet).repository("a/b")
    raised: list[BaseException] = []

    def read() -> None:
        try:
            read_blob(repository)
        except CredentialsRejected as error:
            raised.append(error)

    threads = [threading.Thread(target=read) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({id(error) for error in raised}) == 5
    assert len(tokens.requests) == 1
