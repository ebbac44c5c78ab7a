import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orasfs.staging.gojson import Number, Value, dumps, sort_keys, written


def test_strings_are_escaped_as_go_escapes_them() -> None:
    """What json.Marshal of Go 1.22 to 1.26 returns for this string."""
    text = '\x00\x01\b\f\n\r\t\x1f\x7f"\\/<>&\u2028\u2029é😀'
    expected = (
        r'"\u0000\u0001\b\f\n\r\t\u001f' + "\x7f" + r"\"\\/\u003c\u003e\u0026\u2028\u2029" + 'é😀"'
    )
    assert dumps(text) == expected.encode()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"a\xff", rb'"a\ufffd"'),
        (b"\xe2\x82", rb'"\ufffd\ufffd"'),  # one for each byte of a sequence cut short
        ("�".encode(), '"�"'.encode()),  # a valid replacement character is one like any other
    ],
)
def test_bytes_that_are_not_utf8_become_replacement_characters(
    raw: bytes, expected: bytes
) -> None:
    assert dumps(raw.decode("utf-8", "surrogateescape")) == expected


def test_objects_are_compact_and_keep_the_callers_order() -> None:
    value: Value = {"b": [1, -2, True, False, None], "a": {}, "c": [], "d": b"{}"}
    assert dumps(value) == b'{"b":[1,-2,true,false,null],"a":{},"c":[],"d":"e30="}'


def test_number_literals_are_written_as_read() -> None:
    assert dumps([Number("1.50"), Number("1e400")]) == b"[1.50,1e400]"


def test_what_is_written_ahead_is_written_as_it_would_have_been() -> None:
    value: Value = {"a": [1, {"<": None}], "b": b"x"}
    assert dumps({"v": written(value)}) == dumps({"v": value})
    assert dumps([written(value)] * 2) == dumps([value, value])


def test_map_keys_are_sorted_by_bytes() -> None:
    keys = ["é", "z", "Z", "a.b", "a", "\U0001f600", "\uff5e"]
    assert list(sort_keys(dict.fromkeys(keys, ""))) == [
        "Z", "a", "a.b", "z", "é", "\uff5e", "\U0001f600",
    ]  # fmt: skip


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
)


@given(_JSON)
def test_what_is_written_reads_back(value: Value) -> None:
    assert json.loads(dumps(value)) == value


@given(st.dictionaries(_TEXT, _TEXT))
def test_the_order_of_a_map_does_not_depend_on_how_it_was_filled(
    values: Mapping[str, str],
) -> None:
    backwards = dict(reversed(list(values.items())))
    assert dumps(sort_keys(values)) == dumps(sort_keys(backwards))
