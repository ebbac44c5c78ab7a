"""The control files: documents and metrics from values."""

import json
from dataclasses import replace
from pathlib import Path

from orasfs.daemon import control
from orasfs.daemon.config import MountConfig
from orasfs.daemon.health import RegistryHealth
from orasfs.registry.circuit import CircuitStatus, State

WELL = RegistryHealth(reachable=True, requests={"resolve": 3})
ILL = RegistryHealth(
    reachable=False, requests={"resolve": 1}, failures=1, last_error='no "answer"',
    last_error_time=1_700_000_000.0,
)  # fmt: skip


def test_the_status_says_what_is_mounted_and_how_the_registries_fare() -> None:
    config = MountConfig(source="registries", mountpoint="/mnt", cache=Path("/cache"), pin=True)
    document = json.loads(
        control.as_json(
            control.status(
                config,
                version="1",
                pid=7,
                since=0.0,
                registries={"a:1": WELL, "b": ILL},
                transport="device",
            )
        )
    )
    assert document["source"] == "registries"
    assert document["mountpoint"] == "/mnt"
    assert (document["transport"], document["options"]["transport"]) == ("device", "auto")
    assert (document["version"], document["pid"]) == ("1", 7)
    assert document["since"] == "1970-01-01T00:00:00+00:00"
    assert document["registries"]["a:1"]["reachable"] is True
    assert document["registries"]["a:1"]["last_error"] is None
    assert document["registries"]["b"]["last_error"] == 'no "answer"'
    assert document["registries"]["b"]["last_error_time"] == "2023-11-14T22:13:20+00:00"
    assert document["options"]["pin"] is True
    assert document["options"]["cache"] == "/cache"
    assert "mountpoint" not in document["options"]


def test_metrics_are_in_the_text_exposition_format() -> None:
    text = control.metrics({"hits": 2}, {"a:1": WELL, 'b"': ILL}, since=5.0).decode()
    lines = text.splitlines()
    assert "orasfs_start_time_seconds 5" in lines
    assert "# TYPE orasfs_cache_hits_total counter" in lines
    assert "orasfs_cache_hits_total 2" in lines
    assert 'orasfs_registry_operations_total{registry="a:1",operation="resolve"} 3' in lines
    assert 'orasfs_registry_failures_total{registry="b\\""} 1' in lines
    assert 'orasfs_registry_reachable{registry="a:1"} 1' in lines
    assert text.endswith("\n")


def test_hosts_that_are_left_alone_are_told() -> None:
    circuits = {
        "a:1": CircuitStatus(),
        "mirror:2": CircuitStatus(State.OPEN, failures=5, opened=1, refused=7),
    }
    health = replace(WELL, circuits=circuits)
    status = control.status(
        MountConfig(), version="1", pid=7, since=0.0, registries={"a:1": health}, transport=""
    )
    assert status["registries"]["a:1"]["circuits"] == {
        "a:1": {"state": "closed", "failures": 0, "opened": 0, "refused": 0},
        "mirror:2": {"state": "open", "failures": 5, "opened": 1, "refused": 7},
    }
    lines = control.metrics({}, {"a:1": health}, since=0.0).decode().splitlines()
    assert 'orasfs_circuit_open{registry="a:1",host="a:1"} 0' in lines
    assert 'orasfs_circuit_open{registry="a:1",host="mirror:2"} 1' in lines
    assert 'orasfs_circuit_refused_total{registry="a:1",host="mirror:2"} 7' in lines


def test_metrics_of_a_mount_without_registries_have_no_empty_family() -> None:
    assert b"registry" not in control.metrics({}, {}, since=0.0)


def test_a_name_that_is_no_utf8_does_not_break_a_document() -> None:
    assert json.loads(control.as_json({"source": "oci:/\udce9"}))
