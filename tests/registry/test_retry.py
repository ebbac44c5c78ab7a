from hypothesis import given
from hypothesis import strategies as st

from orasfs.errors import (
    ConnectionBroken,
    ConnectionRefused,
    HostUnreachable,
    TimedOut,
    TLSFailure,
    Unreachable,
)
from orasfs.registry.retry import RetryPolicy, is_passing

policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 2000),
    base_seconds=st.floats(0.001, 10),
    cap_seconds=st.floats(0.001, 60),
    deadline_seconds=st.floats(0, 600),
)
failures = st.one_of(
    st.integers(100, 599),
    st.sampled_from([ConnectionBroken("x"), TimedOut("x"), ConnectionRefused("x")]),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 3000), st.floats(0, 1000), failures, jitters)
def test_no_delay_leads_beyond_deadline_or_cap(
    policy: RetryPolicy, attempt: int, elapsed: float, failure: Unreachable | int, jitter: float
) -> None:
    delay = policy.decide(attempt, elapsed, failure, jitter=lambda: jitter)
    if delay is not None:
        assert 0 <= delay <= policy.cap_seconds
        assert elapsed + delay <= policy.deadline_seconds
        assert attempt < policy.attempts


@given(policies, st.integers(1, 3000), st.floats(0, 1000), st.floats(0, 1e12), jitters)
def test_retry_after_is_honoured_or_nothing(
    policy: RetryPolicy, attempt: int, elapsed: float, wish: float, jitter: float
) -> None:
    """Never sooner than the server asked, never later than the deadline."""
    delay = policy.decide(attempt, elapsed, 429, wish, jitter=lambda: jitter)
    assert delay is None or (delay >= wish and elapsed + delay <= policy.deadline_seconds)


def test_delays_double_up_to_the_cap() -> None:
    policy = RetryPolicy(attempts=10, base_seconds=1, cap_seconds=4, deadline_seconds=100)
    most = [policy.decide(n, 0, 503, jitter=lambda: 1.0) for n in range(1, 6)]
    least = [policy.decide(n, 0, 503, jitter=lambda: 0.0) for n in range(1, 6)]
    assert most == [1, 2, 4, 4, 4]
    assert least == [0.5, 1, 2, 2, 2]


def test_the_last_attempt_is_the_last() -> None:
    policy = RetryPolicy(attempts=3)
    assert policy.decide(2, 0, 503) is not None
    assert policy.decide(3, 0, 503) is None


def test_only_passing_faults_are_repeated() -> None:
    passing = {status for status in range(100, 600) if is_passing(status)}
    assert passing == {408, 425, 429} | (set(range(500, 600)) - {501})
    assert is_passing(ConnectionBroken("x"))
    assert is_passing(TimedOut("x"))
    for lasting in (ConnectionRefused, HostUnreachable, TLSFailure):
        assert not is_passing(lasting("x"))
