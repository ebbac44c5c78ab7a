"""JSON bytes as Go's `encoding/json.Marshal` writes them, so that digests are the same.

Owns the escaping and nothing of what is written. Pure.
Compact; the caller gives the order of an object's keys, as a Go struct does, and `sort_keys` that
of a Go map. Source: the Go standard library's encoding/json, with its default HTML escaping.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence

# Everything that is not written as itself. The surrogates are bytes that were no UTF-8.
_SPECIAL = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]')
_SHORT = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


class Number(str):
    """A number's literal, written as it was read."""

    __slots__ = ()


class Written(str):
    """JSON that is written already, which takes a fraction of the memory of what it is made of."""

    __slots__ = ()


Value = (
    None | bool | int | Number | Written | str | bytes | Sequence["Value"] | Mapping[str, "Value"]
)  # bytes are written in base64


def dumps(value: Value) -> bytes:
    """Return the UTF-8 bytes of `value`.

    A surrogate, which stands for a byte that was not UTF-8 (PEP 383), becomes the replacement
    character, as an invalid byte does in Go.
    """
    return "".join(_tokens(value)).encode()


def written(value: Value) -> Written:
    """Write `value` ahead, as a part of what is written later."""
    return Written("".join(_tokens(value)))


def sort_keys(values: Mapping[str, str]) -> dict[str, Value]:
    """Return `values` in the order of a Go map: by the bytes of the keys."""
    return {key: values[key] for key in sorted(values, key=_bytes_of)}


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if "\ud800" <= character <= "\udfff":
        return "\\ufffd"
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def _quote(text: str) -> str:
    return f'"{_SPECIAL.sub(_escape, text)}"'


def _tokens(value: Value) -> Iterator[str]:
    match value:
        case None:
            yield "null"
        case bool():
            yield "true" if value else "false"
        case Number() | Written():
            yield str(value)
        case int():
            yield str(value)
        case str():
            yield _quote(value)
        case bytes():
            yield f'"{base64.b64encode(value).decode()}"'
        case Mapping():
            yield "{"
            for number, (key, member) in enumerate(value.items()):
                yield f"{',' if number else ''}{_quote(key)}:"
                yield from _tokens(member)
            yield "}"
        case _:
            yield "["
            for number, member in enumerate(value):
                # Joined here: all tokens of a long list are several times what they make.
                yield f"{',' if number else ''}{''.join(_tokens(member))}"
            yield "]"
