"""`WWW-Authenticate`: which ways of authentication a server offers (RFC 9110 section 11.6.1).

Owns the grammar of challenges, with several of them in one field. Sans-io and total: whatever a
server sends, the challenges that can be read before the first error are returned.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAX_FIELD_CHARACTERS = 16 * 1024

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110 section 5.6.2, no secret
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,|$))")
_TOKEN68 = re.compile(r"([A-Za-z0-9._~+/-]+=*)[ \t]*(?=,|$)")
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",=][^\s",]*))')
_EMPTY = re.compile(r"[ \t]*(?:,[ \t]*)*")  # a list may have empty elements: section 5.6.1.2


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge.

    Attributes:
        scheme: in lower case.
        parameters: by name in lower case; of one that is repeated, the first.
        token68: what stands in place of parameters, "" for none.
    """

    scheme: str
    parameters: Mapping[str, str]
    token68: str = ""


def parse_challenges(field: str) -> tuple[Challenge, ...]:
    """Return the challenges of a field, or of several joined by commas."""
    return tuple(_challenges(field[:MAX_FIELD_CHARACTERS]))


def _challenges(text: str) -> Iterator[Challenge]:
    at = _skip(text, 0)
    while at < len(text):
        scheme = _SCHEME.match(text, at)
        if scheme is None:
            return
        at = scheme.end()
        opaque = _TOKEN68.match(text, at)
        if opaque is not None and _PARAMETER.match(text, at) is None:
            yield Challenge(scheme[1].lower(), {}, opaque[1])
            at = _skip(text, opaque.end())
            continue
        parameters, at = _parameters(text, at)
        yield Challenge(scheme[1].lower(), parameters)


def _parameters(text: str, at: int) -> tuple[dict[str, str], int]:
    """Read parameters up to the next challenge, or to what is neither."""
    found: dict[str, str] = {}
    at = _skip(text, at)
    while parameter := _PARAMETER.match(text, at):
        quoted, bare = parameter[2], parameter[3]
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
        found.setdefault(parameter[1].lower(), value)
        at = _skip(text, parameter.end())
    return found, at


def _skip(text: str, at: int) -> int:
    match = _EMPTY.match(text, at)
    return match.end() if match else at
