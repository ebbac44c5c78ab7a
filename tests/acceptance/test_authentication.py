"""Real mounts of registries that want to know who asks."""

import json
import os
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.fakes.guarded import GuardedRegistry
from tests.support.docker_registry import DockerRegistry
from tests.support.gestures import commit, refused
from tests.support.golden import LAYOUT
from tests.support.loopback import Exchange
from tests.support.mounted import Mounted, run
from tests.support.publish import publish_files
from tests.support.secrets import HTPASSWD, SECRET, WRONG, SecretiveMount, write_config
from tests.support.token_server import ISSUER, SERVICE, Rules, TokenServer

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

UNAUTHORIZED = 4  # the exit status
MANY_BYTES = 100_000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    """The certificates, and a registry's storage with an artifact in it."""
    directory = tmp_path_factory.mktemp("auth")
    authority.cert_pem.write_to_path(directory / "ca.pem")
    leaf = authority.issue_cert("127.0.0.1", "localhost")
    leaf.cert_chain_pems[0].write_to_path(directory / "cert.pem")
    leaf.private_key_pem.write_to_path(directory / "key.pem")
    (directory / "htpasswd").write_text(HTPASSWD)
    with DockerRegistry(directory / "registry") as registry:
        registry.push_layout(LAYOUT, "multi", "team/hello", tag="v1")
    return directory


def guarded(files: Path, auth: str) -> DockerRegistry:
    return DockerRegistry(
        files / "registry",
        certificate=files / "cert.pem",
        key=files / "key.pem",
        authentication=auth,
    )


@pytest.fixture(scope="module")
def htpasswd(files: Path) -> Iterator[DockerRegistry]:
    """A docker-registry behind TLS that wants Basic."""
    auth = f"  htpasswd:\n    realm: test\n    path: {files / 'htpasswd'}\n"
    with guarded(files, auth) as registry:
        yield registry


@pytest.fixture(scope="module")
def tokens(files: Path, authority: trustme.CA) -> Iterator[TokenServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with TokenServer(Rules(users={"user": SECRET}), context) as server:
        server.signer.write_bundle(files / "bundle.pem")
        yield server


@pytest.fixture(scope="module")
def bearer(files: Path, tokens: TokenServer) -> Iterator[DockerRegistry]:
    """A docker-registry behind TLS that wants tokens."""
    auth = (
        f"  token:\n    realm: {tokens.realm}\n    service: {SERVICE}\n"
        f"    issuer: {ISSUER}\n    rootcertbundle: {files / 'bundle.pem'}\n"
    )
    with guarded(files, auth) as registry:
        yield registry


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["htpasswd", "bearer"])
def test_a_guarded_registry_is_browsed_and_read(
    kind: str, request: pytest.FixtureRequest, files: Path, tmp_path: Path
) -> None:
    registry: DockerRegistry = request.getfixturevalue(kind)
    config = write_config(tmp_path / "config.json", registry.host)
    options = (f"registry_config={config}", f"ca_file={files / 'ca.pem'}")
    with SecretiveMount(registry.host, tmp_path / "m", *options) as mounted:
        top = mounted.path / "team/hello"
        assert run(["ls", top]).stdout.split() == ["v1"]
        assert run(["cp", "-r", top / "v1", tmp_path / "copy"]).returncode == 0
        assert run(["find", tmp_path / "copy", "-type", "f"]).stdout
        assert run(["cat", mounted.path / "team/none/v1"], check=False).returncode != 0


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["htpasswd", "bearer"])
def test_a_wrong_password_is_eacces_with_the_reason(
    kind: str, request: pytest.FixtureRequest, files: Path, tmp_path: Path
) -> None:
    registry: DockerRegistry = request.getfixturevalue(kind)
    config = write_config(tmp_path / "config.json", registry.host, WRONG)
    options = (f"registry_config={config}", f"ca_file={files / 'ca.pem'}")
    with SecretiveMount(registry.host, tmp_path / "m", *options) as mounted:
        done = run(["cat", mounted.path / "team/hello:v1/artifact.txt"], check=False)
        assert "Permission denied" in done.stderr
        words = run(["cat", mounted.path / "team/.oras/error"]).stdout
        assert "does not take the credentials of" in words
        assert "config.json" in words
        assert "credentials rejected" in mounted.log()
        # The file is mended under the running mount.
        write_config(config, registry.host)
        assert run(["ls", mounted.path / "team/hello/v1"]).stdout


@pytest.mark.registry
def test_credentials_of_the_command_line_are_in_no_process_list(
    htpasswd: DockerRegistry, files: Path, tmp_path: Path
) -> None:
    mounted = SecretiveMount(htpasswd.host, tmp_path, f"ca_file={files / 'ca.pem'}")
    with mounted.in_background("-u", "user", "--password-stdin", stdin=SECRET):
        assert run(["ls", mounted.path / "team/hello/v1"]).stdout
        pid = json.loads(run(["cat", mounted.path / ".orasfs/status.json"]).stdout)["pid"]
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{pid}/{name}").read_bytes()


def test_a_helper_is_asked_and_its_failure_is_eacces(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text("#!/bin/sh\necho the vault is locked\nexit 1\n")
    helper.chmod(0o755)
    config = tmp_path / "config.json"
    with GuardedRegistry(users={"user": SECRET}) as registry:
        publish_files(registry, "a", "v1", **{"f.txt": b"content"})
        config.write_text(json.dumps({"credHelpers": {registry.host: "test"}}))
        environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        options = (f"registry_config={config}",)
        with SecretiveMount(registry.host, tmp_path / "m", *options, environ=environ) as mounted:
            done = run(["cat", mounted.path / "a:v1/f.txt"], check=False)
            assert "Permission denied" in done.stderr
            assert "the vault is locked" in run(["cat", mounted.path / ".oras/error"]).stdout
            answer = json.dumps({"Username": "user", "Secret": SECRET})
            helper.write_text(f"#!/bin/sh\necho '{answer}'\n")
            assert run(["cat", mounted.path / "a:v1/f.txt"]).stdout == "content"


def test_a_name_that_is_refused_with_a_token_is_not_there(tmp_path: Path) -> None:
    """Hosted registries answer 401 for what does not exist."""
    with (
        TokenServer(Rules(users={"user": SECRET})) as tokens,
        GuardedRegistry(tokens) as registry,
    ):
        publish_files(registry, "a", "v1", **{"f.txt": b"content"})
        registry.hidden = frozenset({"b", "b/v1", "a/v2"})
        config = write_config(tmp_path / "config.json", registry.host)
        with SecretiveMount(registry.host, tmp_path / "m", f"registry_config={config}") as mounted:
            assert run(["cat", mounted.path / "a/v1/f.txt"]).stdout == "content"
            for name in ("a:none", "b:v1"):
                done = run(["ls", mounted.path / name], check=False)
                assert "No such file" in done.stderr


def test_tokens_of_two_seconds_serve_twenty_seconds_of_reads(tmp_path: Path) -> None:
    rules = Rules(users={"user": SECRET}, seconds=2)
    with TokenServer(rules) as tokens, GuardedRegistry(tokens) as registry:
        names = {f"f{number:02}.txt": bytes([number]) * 1000 for number in range(40)}
        for name, content in names.items():
            publish_files(registry, "a", name[:3], **{name: content})
        config = write_config(tmp_path / "config.json", registry.host)
        pause = threading.Event()
        with SecretiveMount(registry.host, tmp_path / "m", f"registry_config={config}") as mounted:
            for name, content in names.items():
                pause.wait(0.5)
                assert (mounted.path / f"a:{name[:3]}" / name).read_bytes() == content
    assert len(tokens.requests) >= 8


def begin(mounted: Mounted, name: str, content: bytes = b"content") -> Path:
    """Begin a draft `name` (`REPOSITORY:TAG`) with a file in it."""
    draft = mounted.path / name
    run(["mkdir", draft])
    (draft / "f.bin").write_bytes(content)
    return draft


@pytest.mark.registry
@pytest.mark.parametrize("kind", ["htpasswd", "bearer"])
def test_a_new_repository_is_committed_to_a_guarded_registry(
    kind: str, request: pytest.FixtureRequest, files: Path, tmp_path: Path
) -> None:
    registry: DockerRegistry = request.getfixturevalue(kind)
    config = write_config(tmp_path / "config.json", registry.host)
    options = (f"registry_config={config}", f"ca_file={files / 'ca.pem'}")
    with SecretiveMount(registry.host, tmp_path / "m", *options) as mounted:
        digest = commit(begin(mounted, f"new/{kind}:v1"))
        assert digest.startswith("sha256:")
        assert (mounted.path / f"new/{kind}/v1/f.bin").read_bytes() == b"content"
    with SecretiveMount(registry.host, tmp_path / "another", *options) as mounted:
        assert (mounted.path / f"new/{kind}:v1/f.bin").read_bytes() == b"content"
        assert os.getxattr(mounted.path / f"new/{kind}:v1", "user.oras.digest").decode() == digest


@pytest.mark.parametrize(("kind", "status"), [("basic", 403), ("bearer", 401)])
def test_a_repository_is_begun_where_what_does_not_exist_is_refused(
    kind: str, status: int, tmp_path: Path
) -> None:
    users = {"user": SECRET}
    with (
        TokenServer(Rules(users=users)) as tokens,
        GuardedRegistry(tokens if kind == "bearer" else None, users) as registry,
    ):
        registry.unknown_status = status
        config = write_config(tmp_path / "config.json", registry.host)
        options = (f"registry_config={config}",)
        with SecretiveMount(registry.host, tmp_path / "m", *options) as mounted:
            for name in ("team/new:v1", "team/new:v1/f.bin"):
                assert "No such file" in run(["cat", mounted.path / name], check=False).stderr
            commit(begin(mounted, "team/new:v1"))
            assert (mounted.path / "team/new/v1/f.bin").read_bytes() == b"content"
        assert registry.count("PUT", "/v2/team/new/manifests/v1$") == 1


@pytest.mark.parametrize("kind", ["basic", "bearer"])
def test_a_password_that_is_taken_back_fails_a_commit_and_loses_nothing(
    kind: str, tmp_path: Path
) -> None:
    users = {"user": SECRET}
    rules = Rules(users=users, seconds=1)
    with (
        TokenServer(rules) as tokens,
        GuardedRegistry(tokens if kind == "bearer" else None, users) as registry,
    ):
        config = write_config(tmp_path / "config.json", registry.host)
        options = (f"registry_config={config}",)
        with SecretiveMount(registry.host, tmp_path / "m", *options) as mounted:
            draft = begin(mounted, "team/new:v1")
            users["user"] = WRONG
            tokens.issued.clear()
            status, said = refused(draft)
            assert status == UNAUTHORIZED
            words = run(["cat", draft / ".oras/error"]).stdout
            for text in (said, words):
                assert "does not take the credentials of" in text
                assert ("incorrect username" if kind == "bearer" else "authentication") in text
            assert (draft / "f.bin").read_bytes() == b"content"
            write_config(config, registry.host, WRONG)
            commit(draft)
        assert registry.count("PUT", "/v2/team/new/manifests/v1$") == 1


class SlowRegistry(GuardedRegistry):
    """Takes bodies slowly; looks at the token when a request begins, as registries do."""

    seconds = 0.0

    def _read(self, exchange: Exchange) -> tuple[bytes, bool]:
        is_large = int(exchange.headers.get("Content-Length", "0")) > MANY_BYTES
        if is_large and "/uploads/" in exchange.path:
            self.stopping.wait(self.seconds)
        return super()._read(exchange)


@pytest.mark.parametrize("takes_whole", [True, False])
def test_an_upload_outlives_its_token(takes_whole: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a parameter
    """Whole, and in chunks of which each begins with what token there is."""
    rules = Rules(users={"user": SECRET}, seconds=1)
    content = os.urandom(9_000_000)
    with TokenServer(rules) as tokens, SlowRegistry(tokens) as registry:
        registry.takes_whole = takes_whole
        registry.seconds = 1.2 if takes_whole else 0.6
        config = write_config(tmp_path / "config.json", registry.host)
        options = (f"registry_config={config}",)
        with SecretiveMount(registry.host, tmp_path / "m", *options) as mounted:
            commit(begin(mounted, "team/new:v1", content))
        asked = Counter(tuple(query["scope"]) for _, query, _ in tokens.requests)
        assert max(asked.values()) > 1
        assert bool(registry.count("PATCH")) is not takes_whole
        assert content in registry._blobs["team/new"].values()
