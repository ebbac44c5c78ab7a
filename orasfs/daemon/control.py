"""The control files of a mount: what `MOUNT/.orasfs/NAME` contains (docs/SEMANTICS.md).

Owns their names and formats: JSON documents, Prometheus text exposition format 0.0.4, and the log.
Pure functions of values that the daemon hands in.
INVARIANT: nothing secret is in them: `MountConfig.secrets` is left out.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orasfs.daemon.config import MountConfig
from orasfs.daemon.health import RegistryHealth
from orasfs.registry.circuit import CircuitStatus, State

STATUS = "status.json"
TRANSFERS = "transfers.json"
DRAFTS = "drafts.json"
COMMITS = "commits.json"
FETCHES = "fetches.json"
METRICS = "metrics"
LOG = "log"


def as_json(document: object) -> bytes:
    """Return a document for people and scripts: indented, one newline at the end."""
    return (json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n").encode(
        "utf-8", "backslashreplace"
    )


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def status(
    config: MountConfig,
    *,
    version: str,
    pid: int,
    since: float,
    registries: Mapping[str, RegistryHealth],
    transport: str,
) -> dict[str, Any]:
    """Return the document of `status.json`; `since` in seconds since the epoch.

    `transport` is the one in use, where the options may leave the choice.
    """
    return {
        "version": version,
        "source": config.source,
        "mountpoint": config.mountpoint,
        "transport": transport,
        "pid": pid,
        "since": timestamp(since),
        "registries": {host: _registry(health) for host, health in registries.items()},
        "options": _options(config),
    }


def _registry(health: RegistryHealth) -> dict[str, Any]:
    return {
        "reachable": health.reachable,
        "requests": dict(health.requests),
        "failures": health.failures,
        "last_error": health.last_error or None,
        "last_error_time": timestamp(health.last_error_time) if health.last_error else None,
        "circuits": {host: _circuit(status) for host, status in health.circuits.items()},
    }


def _circuit(status: CircuitStatus) -> dict[str, Any]:
    return {
        "state": status.state.value,
        "failures": status.failures,
        "opened": status.opened,
        "refused": status.refused,
    }


def _options(config: MountConfig) -> dict[str, Any]:
    fields = dataclasses.asdict(config)
    hidden = {"source", "mountpoint", "secrets"}
    return {name: value for name, value in fields.items() if name not in hidden}


def metrics(
    statistics: Mapping[str, float], registries: Mapping[str, RegistryHealth], since: float
) -> bytes:
    """Return the metrics: the start, the cache's counters, operations by registry."""
    start = [("", since)]
    lines = list(_family("orasfs_start_time_seconds", "gauge", "Since when mounted.", start))
    for name, value in sorted(statistics.items()):
        description = f"The cache's {name.replace('_', ' ')}."
        lines += _family(f"orasfs_cache_{name}_total", "counter", description, [("", value)])
    requests = [
        (_labels(registry=host, operation=operation), count)
        for host, health in registries.items()
        for operation, count in sorted(health.requests.items())
    ]
    failures = [(_labels(registry=host), health.failures) for host, health in registries.items()]
    up = [
        (_labels(registry=host), int(health.reachable))
        for host, health in registries.items()
        if health.reachable is not None
    ]
    lines += _family("orasfs_registry_operations_total", "counter", "Asked for.", requests)
    lines += _family("orasfs_registry_failures_total", "counter", "Not answered.", failures)
    lines += _family("orasfs_registry_reachable", "gauge", "1: answered last.", up)
    lines += _circuit_lines(registries)
    return "".join(f"{line}\n" for line in lines).encode()


def _circuit_lines(registries: Mapping[str, RegistryHealth]) -> Iterable[str]:
    circuits = [
        (_labels(registry=registry, host=host), status)
        for registry, health in registries.items()
        for host, status in health.circuits.items()
    ]
    states = [(labels, int(status.state is not State.CLOSED)) for labels, status in circuits]
    opened = [(labels, status.opened) for labels, status in circuits]
    refused = [(labels, status.refused) for labels, status in circuits]
    yield from _family("orasfs_circuit_open", "gauge", "1: left alone for now.", states)
    yield from _family("orasfs_circuit_opened_total", "counter", "Times left alone.", opened)
    yield from _family("orasfs_circuit_refused_total", "counter", "Requests not sent.", refused)


def _family(
    name: str, kind: str, description: str, samples: Sequence[tuple[str, float]]
) -> Iterable[str]:
    if not samples:
        return
    yield f"# HELP {name} {description}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{labels} {value:.17g}"


def _labels(**labels: str) -> str:
    quoted = ",".join(f'{name}="{_quoted(value)}"' for name, value in labels.items())
    return f"{{{quoted}}}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
