"""The grammar of WWW-Authenticate, with what servers make of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.registry.challenge import Challenge, parse_challenges

HUB = (
    'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
    'scope="repository:library/alpine:pull"'
)


def test_bearer_of_docker_hub() -> None:
    assert parse_challenges(HUB) == (
        Challenge(
            "bearer",
            {
                "realm": "https://auth.docker.io/token",
                "service": "registry.docker.io",
                "scope": "repository:library/alpine:pull",
            },
        ),
    )


def test_several_challenges_in_one_field() -> None:
    field = f'Negotiate, Basic realm="a, \\"b\\"" , {HUB}, Digest abc=='
    assert [c.scheme for c in parse_challenges(field)] == [
        "negotiate",
        "basic",
        "bearer",
        "digest",
    ]
    assert parse_challenges(field)[1].parameters == {"realm": 'a, "b"'}
    assert parse_challenges(field)[3].token68 == "abc=="


@pytest.mark.parametrize(
    ("field", "parameters"),
    [
        ('bEARER Realm = "x" ; y', {"realm": "x"}),
        ("Bearer realm=https://h/t,service=s", {"realm": "https://h/t", "service": "s"}),
        (',, Bearer realm="x",,scope="a b",', {"realm": "x", "scope": "a b"}),
        ('Bearer realm="x",realm="y"', {"realm": "x"}),
        ('Bearer error="denied", realm="x"', {"error": "denied", "realm": "x"}),
        ('Bearer realm="unterminated', {}),
        ("Bearer", {}),
    ],
)
def test_shapes_of_parameters(field: str, parameters: dict[str, str]) -> None:
    first = parse_challenges(field)[0]
    assert first.scheme == "bearer"
    assert {k: v for k, v in first.parameters.items() if v != '"unterminated'} == parameters


@pytest.mark.parametrize("field", ["", " ", ",", "=", '"', "(Basic)"])
def test_what_is_no_challenge_is_none(field: str) -> None:
    assert parse_challenges(field) == ()


@given(st.text())
def test_any_field_is_read_or_left(field: str) -> None:
    for challenge in parse_challenges(field):
        assert challenge.scheme == challenge.scheme.lower() != ""


WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)


@given(
    st.lists(
        st.tuples(WORDS, st.dictionaries(WORDS, st.text(st.characters(codec="ascii")))),
        max_size=4,
    )
)
def test_what_is_written_as_the_grammar_says_is_read_back(
    written: list[tuple[str, dict[str, str]]],
) -> None:
    def quote(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    written = [(s, {k: v.replace("\n", " ") for k, v in p.items()}) for s, p in written]
    field = ", ".join(
        f"{scheme} {', '.join(f'{k}={quote(v)}' for k, v in parameters.items())}".strip()
        for scheme, parameters in written
    )
    assert [(c.scheme, c.parameters) for c in parse_challenges(field)] == written
