"""The user's credentials: given on the command line, in files, and with helpers.

Owns which files are looked at in which order, and reads each again when it has changed on disk.
Blocking, for worker threads; every method may be called from any. What the files say is
`orasfs.registry.dockerconfig`'s business.

INVARIANT: nothing of a secret is logged; a file that is there and cannot be used is never taken
for one without credentials.
"""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orasfs.errors import CredentialsUnusable, InvalidContent
from orasfs.registry import dockerconfig
from orasfs.registry.credential import Credential, CredentialFinder
from orasfs.registry.dockerconfig import DockerConfig
from orasfs.registry.helpers import get_credential

MAX_FILE_BYTES = 4 * 1024 * 1024

# (name of the helper, address) -> what it has
HelperCall = Callable[[str, str], Credential | None]


def credential_files(
    chosen: Sequence[Path], environ: Mapping[str, str], home: Path
) -> tuple[Path, ...]:
    """Return where credentials may be, in the order in which they are looked up.

    Files that were chosen (`--registry-config`) are all there are. Otherwise docker's place, which
    the reference client shares, comes before podman's.
    """
    if chosen:
        return tuple(chosen)
    docker = environ.get("DOCKER_CONFIG")
    places = [(Path(docker) if docker else home / ".docker") / "config.json"]
    named = environ.get("REGISTRY_AUTH_FILE")
    if named:
        return (*places, Path(named))
    runtime, config = environ.get("XDG_RUNTIME_DIR"), environ.get("XDG_CONFIG_HOME")
    if runtime:
        places.append(Path(runtime) / "containers/auth.json")
    places.append((Path(config) if config else home / ".config") / "containers/auth.json")
    return tuple(places)


class CredentialFile:
    """One file, read again whenever it is another one or has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._identity: tuple[int, ...] | None = None
        self._config = DockerConfig({}, {})

    def __repr__(self) -> str:
        return f"CredentialFile({self.path})"

    def config(self) -> DockerConfig:
        """Return what is in it now; nothing if it is not there.

        Raises:
            CredentialsUnusable: it is there and cannot be read, or is not what it should be.
        """
        with self._lock:
            try:
                identity = self._stat()
                if identity is None:
                    self._config = DockerConfig({}, {})
                elif identity != self._identity:
                    self._config = dockerconfig.parse_config(self._read())
            except OSError as error:
                raise CredentialsUnusable(f"{self.path}: {error.strerror}") from error
            except InvalidContent as error:
                raise CredentialsUnusable(f"{self.path}: {error}") from error
            self._identity = identity
            return self._config

    def _stat(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> bytes:
        with self.path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise InvalidContent(f"larger than {MAX_FILE_BYTES} bytes")
        return raw


class UserCredentials:
    """Implements `CredentialFinder` over files in their order.

    Args:
        files: see `credential_files`.
        ask_helper: runs a credential helper.
    """

    def __init__(self, files: Sequence[Path], *, ask_helper: HelperCall = get_credential) -> None:
        self._files = [CredentialFile(path) for path in files]
        self._ask_helper = ask_helper

    def __repr__(self) -> str:
        return f"UserCredentials({', '.join(str(file.path) for file in self._files)})"

    def find(self, host: str, repository: str) -> Credential | None:
        """See `CredentialFinder.find`: the first file that has one decides."""
        for file in self._files:
            found = self._find_in(file, host, repository)
            if found is not None:
                return found
        return None

    def _find_in(self, file: CredentialFile, host: str, repository: str) -> Credential | None:
        config = file.config()
        helper = dockerconfig.helper_for(config, host, repository)
        if helper:
            return self._ask_helper(helper, dockerconfig.helper_address(host))
        try:
            found = dockerconfig.credential_in(config, host, repository)
        except InvalidContent as error:
            raise CredentialsUnusable(f"{file.path}: {error}") from error
        return found.named(str(file.path)) if found is not None else None


class GivenCredential:
    """Implements `CredentialFinder`: one credential for one host, whatever the files say."""

    def __init__(self, host: str, credential: Credential, others: CredentialFinder) -> None:
        self._host = host
        self._credential = credential
        self._others = others

    def __repr__(self) -> str:
        return f"GivenCredential({self._host})"

    def find(self, host: str, repository: str) -> Credential | None:
        """See `CredentialFinder.find`."""
        if host == self._host:
            return self._credential
        return self._others.find(host, repository)


def user_credentials(chosen: Sequence[Path] = ()) -> UserCredentials:
    """Return the credentials of who runs this process."""
    return UserCredentials(credential_files(chosen, os.environ, Path.home()))
