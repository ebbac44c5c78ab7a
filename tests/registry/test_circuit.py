"""The circuit: when a host is given up, who asks whether it is back, and what the others hear."""

import threading
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import ConnectionRefused, NotFound, TimedOut, Unreachable
from orasfs.registry.circuit import Circuit, CircuitPolicy, State

POLICY = CircuitPolicy(threshold=3, base_seconds=1, cap_seconds=5)
CAUSE = TimedOut("a:5000/x: no answer in time")


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit("a:5000", POLICY, clock=clock)


def state(circuit: Circuit) -> State:
    return circuit.status.state


def fail(circuit: Circuit, times: int = 1, cause: Unreachable = CAUSE) -> None:
    for _ in range(times):
        assert circuit.refusal("s") is None
        circuit.failed(cause)


def test_it_opens_after_failures_in_sequence(circuit: Circuit) -> None:
    fail(circuit, 2)
    assert state(circuit) is State.CLOSED
    fail(circuit)
    assert state(circuit) is State.OPEN
    assert circuit.is_open


def test_an_answer_between_begins_anew(circuit: Circuit) -> None:
    fail(circuit, 2)
    circuit.succeeded()
    fail(circuit, 2)
    assert circuit.refusal("s") is None


def test_open_it_refuses_by_the_last_cause(circuit: Circuit) -> None:
    fail(circuit, 2)
    fail(circuit, cause=ConnectionRefused("a:5000/y: connection refused"))
    refusal = circuit.refusal("a:5000/z:v1")
    assert type(refusal) is ConnectionRefused
    assert not isinstance(refusal, NotFound)
    assert str(refusal) == ("a:5000/z:v1: not asked again yet, since a:5000/y: connection refused")
    assert refusal.left_alone_seconds == pytest.approx(1)
    assert circuit.status.refused == 1


def test_after_the_backoff_one_asks_and_the_others_wait(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 1
    assert state(circuit) is State.HALF_OPEN
    assert circuit.refusal("s") is None
    refusal = circuit.refusal("s")
    assert refusal is not None
    assert 0 < refusal.left_alone_seconds < 1
    circuit.succeeded()
    assert circuit.refusal("s") is None
    assert state(circuit) is State.CLOSED


def test_the_backoff_doubles_up_to_its_cap(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    seconds = []
    for _ in range(5):
        seconds.append(circuit.open_seconds)
        clock.now += circuit.open_seconds
        fail(circuit)
    assert seconds == [1, 2, 4, 5, 5]
    circuit.succeeded()
    fail(circuit, 3)
    assert circuit.open_seconds == 1


def test_a_probe_that_tells_nothing_lets_the_next_one_ask(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 1
    assert circuit.refusal("s") is None
    circuit.abandoned()
    assert circuit.refusal("s") is None


def test_who_insists_is_let_out_and_one_more_failure_opens_it_again(
    circuit: Circuit, clock: Clock
) -> None:
    fail(circuit, 3)
    circuit.insist()
    assert state(circuit) is State.CLOSED
    fail(circuit)
    assert circuit.is_open
    clock.now += circuit.open_seconds
    assert circuit.refusal("s") is None
    circuit.insist()
    circuit.succeeded()
    circuit.insist()
    fail(circuit, 2)
    assert not circuit.is_open


def test_late_failures_of_requests_sent_before_change_nothing(
    circuit: Circuit, clock: Clock
) -> None:
    fail(circuit, 3)
    clock.now += 0.5
    circuit.failed(CAUSE)
    assert circuit.open_seconds == pytest.approx(0.5)
    assert circuit.status.opened == 1


def test_it_says_once_that_a_host_is_left_alone_and_that_it_is_back(
    circuit: Circuit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fail(circuit, 3)
    clock.now += 1
    fail(circuit)
    clock.now += 2
    assert circuit.refusal("s") is None
    circuit.succeeded()
    assert [record.getMessage().partition(" host=")[0] for record in caplog.records] == [
        "registry is left alone",
        "registry is back",
    ]


def test_of_many_threads_one_asks(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 3)
    clock.now += 1
    admitted: list[bool] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait(5)
        admitted.append(circuit.refusal("s") is None)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert admitted.count(True) == 1


EVENTS = st.lists(st.sampled_from(["ask", "fail", "succeed", "abandon", "wait"]), max_size=60)


@given(EVENTS)
def test_whatever_happens_it_asks_again_after_the_longest_backoff(events: list[str]) -> None:
    clock = Clock()
    circuit = Circuit("a", POLICY, clock=clock)
    for event in events:
        if event == "ask":
            circuit.refusal("s")
        elif event == "fail":
            circuit.failed(CAUSE)
        elif event == "succeed":
            circuit.succeeded()
        elif event == "abandon":
            circuit.abandoned()
        else:
            clock.now += 0.7
    circuit.abandoned()  # whoever was asking has ended
    clock.now += POLICY.cap_seconds
    assert circuit.refusal("s") is None
