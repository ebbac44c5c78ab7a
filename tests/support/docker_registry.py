"""A real docker-registry on loopback, for tests: started, filled, stopped and started again.

with DockerRegistry(tmp_path) as registry:
    publish_layout(registry, GOLDEN_LAYOUT, "multi", "team/hello", tag="v1")
    mount(f"{registry.host}/team/hello")
"""

import contextlib
import http.client
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

from tests.support.publish import OCI_MANIFEST, digest_of, publish_layout

START_SECONDS = 20
REQUEST_SECONDS = 60
_PORTS_TRIED = 20

_CONFIGURATION = """\
version: 0.1
log:
  level: error
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: {storage}
  delete:
    enabled: true
http:
  addr: {address}
{tls}{authentication}{proxy}"""


def docker_registry_binary() -> str | None:
    """Return the path of the docker-registry program, None where it is not installed."""
    found = shutil.which("docker-registry") or shutil.which("registry")
    fallback = "/usr/bin/docker-registry"
    return found or (fallback if os.access(fallback, os.X_OK) else None)


def free_port() -> int:
    """Return a loopback port that nothing listens at now.

    It is none of those that the kernel gives away (ip(7), ip_local_port_range): tests that run
    beside this one cannot be given it, however long nobody listens at it.
    """
    given_away = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    highest = int(given_away.split()[0]) - 1
    for port in random.sample(range(min(10_000, highest - 1), highest), _PORTS_TRIED):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


class DockerRegistry:
    """A docker-registry process whose storage outlives `stop()` and `start()` on the same port.

    Without `directory` it makes a temporary one and removes it at the end. `certificate` and
    `key` are PEM files that make it speak TLS; `authentication` is the YAML of its section `auth`;
    `origin` is the URL of the registry that this one is a pull-through cache of.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        authentication: str = "",
        origin: str = "",
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory() if directory is None else None
        self.directory = Path(self._temporary.name) if self._temporary else Path(directory or ".")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self._tls = ""
        if certificate is not None:
            self._tls = f"  tls:\n    certificate: {certificate}\n    key: {key}\n"
        self._authentication = f"auth:\n{authentication}" if authentication else ""
        self._proxy = f"proxy:\n  remoteurl: {origin}\n" if origin else ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """`HOST:PORT`, as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process; only while it runs."""
        if self._process is None:
            raise RuntimeError("docker-registry is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def start(self) -> None:
        """Start it and wait until it answers."""
        binary = docker_registry_binary()
        if binary is None:
            raise RuntimeError("docker-registry is not installed")
        configuration = self.directory / "registry.yml"
        configuration.write_text(
            _CONFIGURATION.format(
                storage=self.directory / "storage",
                address=self.host,
                tls=self._tls,
                authentication=self._authentication,
                proxy=self._proxy,
            )
        )
        # The registry's own environment variables override the file; give it none of ours.
        environment = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        with (self.directory / "registry.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary, "serve", configuration],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment | {"OTEL_TRACES_EXPORTER": "none"},
            )
        self._wait_until_it_listens(self._process)

    def stop(self) -> None:
        """End the process; what it stored stays. Harmless twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def put_blob(self, repository: str, content: bytes | Path) -> str:
        """Store a blob (bytes or a file's content); return its digest."""
        digest = digest_of(content)
        path = f"/v2/{repository}/blobs/{digest}"
        if self.request("HEAD", path)[0] == 200:
            return digest
        status, headers, body = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        _expect(202, status, body)
        location = urlsplit(headers["location"])
        target = f"{location.path}?{location.query}&digest={quote(digest)}"
        octets = {"Content-Type": "application/octet-stream"}
        if isinstance(content, bytes):
            status, _, body = self.request("PUT", target, content, octets)
        else:
            with content.open("rb") as file:
                octets["Content-Length"] = str(content.stat().st_size)
                status, _, body = self.request("PUT", target, file, octets)
        _expect(201, status, body)
        return digest

    def put_manifest(
        self, repository: str, reference: str, raw: bytes, media_type: str = OCI_MANIFEST
    ) -> str:
        """Store a manifest under a tag or its digest; return its digest."""
        path = f"/v2/{repository}/manifests/{reference}"
        status, _, body = self.request("PUT", path, raw, {"Content-Type": media_type})
        _expect(201, status, body)
        return digest_of(raw)

    def tag(self, repository: str, reference: str, *tags: str) -> str:
        """Put the manifest that `reference` names under more tags; return its digest."""
        accept = {"Accept": f"{OCI_MANIFEST}, */*"}
        path = f"/v2/{repository}/manifests/{reference}"
        status, headers, raw = self.request("GET", path, headers=accept)
        _expect(200, status, raw)
        for tag in tags:
            self.put_manifest(repository, tag, raw, headers["content-type"])
        return digest_of(raw)

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest by digest, with all tags on it."""
        status, _, body = self.request("DELETE", f"/v2/{repository}/manifests/{digest}")
        _expect(202, status, body)

    def push_layout(
        self, layout: Path, reference: str, repository: str, *, tag: str | None = None
    ) -> str:
        """Push an artifact of a layout exactly as it is; see `publish_layout`."""
        return publish_layout(self, layout, reference, repository, tag=tag)

    def copy_from_layout(self, layout: Path, tag: str, repository: str) -> None:
        """Push an artifact of a layout with skopeo, keeping tag and digests.

        skopeo 1.9 cannot copy an index of artifacts as it is: `push_layout` can.
        """
        command = ["skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false"]
        command += [f"oci:{layout}:{tag}", f"docker://{self.host}/{repository}:{tag}"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=REQUEST_SECONDS, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; return status, headers (lower case) and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_SECONDS)
        connection.blocksize = 1024 * 1024
        try:
            # http.client takes bytes and files; its stubs name the protocols it accepts privately.
            connection.request(method, path, body, headers or {})  # type: ignore[arg-type]
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, response.read()
        finally:
            connection.close()

    def _wait_until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                # Not a race but a poll: nothing announces that the program listens.
                time.sleep(0.02)  # noqa: TID251
                continue
            return
        log = (self.directory / "registry.log").read_text(errors="replace")
        self.stop()
        raise RuntimeError(f"docker-registry did not start: {log[-2000:]}")


def _expect(expected: int, status: int, body: bytes) -> None:
    if status != expected:
        raise RuntimeError(f"docker-registry answered {status}: {body[:500]!r}")
