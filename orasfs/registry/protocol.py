"""The distribution API 1.1 as values: paths out, answers in. Sans-io.

Owns URLs, Link paging, error bodies, Content-Range, Retry-After, and what an answer means. Knows
no HTTP library, no clock and no registry in particular.

Source: distribution-spec v1.1.1 spec.md (end-1 … end-13), RFC 9110, RFC 8288. What registries
really do is quoted where a rule follows from it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin, urlsplit

from orasfs.errors import (
    Forbidden,
    InvalidName,
    NotFound,
    OrasfsError,
    RateLimited,
    RegistryFailure,
    Unauthorized,
    Unsupported,
)
from orasfs.oci import mediatype
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest
from orasfs.oci.reference import is_repository, is_tag

MAX_ERROR_BYTES = 64 * 1024
# What static file servers and proxies say of a manifest.
_GENERIC_TYPES = frozenset(
    {
        "application/json",
        "application/octet-stream",
        "binary/octet-stream",
        "text/html",
        "text/plain",
    }
)
_NO_HEAD = frozenset({400, 401, 403, 405, 501})
MAX_PAGE_BYTES = 16 * 1024 * 1024
_MAX_MESSAGE = 500
_REFERRERS_ALGORITHM_LENGTH = 32
_REFERRERS_HEX_LENGTH = 64

_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[^\s=;,"]+(?:\s*=\s*(?:"[^"]*"|[^\s";,]*))?)*)')
_NEXT = re.compile(
    r';\s*rel\s*=\s*(?:"(?:[^"]*\s)?next(?:\s[^"]*)?"|next(?=\s|;|$))', re.IGNORECASE
)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a 401 stands, as far as that is known.

    Attributes:
        is_known: whether the registry knows who asks: a token was issued, or the password is good.
        words: what there is to add for a person.
    """

    is_known: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer of any status; header names are in lower case.

    Attributes:
        url: of the request that was answered, behind redirects.
        body: bounded by the caller; empty for HEAD.
        refusal: of a 401, what authentication has to say of it.
        may_be_done: whether the same request was sent before, and its answer was lost.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    refusal: Refusal = Refusal()
    may_be_done: bool = False


@dataclass(frozen=True, slots=True)
class ContentRange:
    """`Content-Range: bytes first-last/total`; `last` is inclusive, total None if unknown."""

    first: int
    last: int
    total: int | None


def manifest_path(repository: str, reference: str) -> str:
    """Return the path of end-3."""
    return f"/v2/{_name(repository)}/manifests/{quote(reference, safe=':')}"


def blob_path(repository: str, digest: Digest) -> str:
    """Return the path of end-2."""
    return f"/v2/{_name(repository)}/blobs/{digest}"


def tags_path(repository: str, limit: int | None = None) -> str:
    """Return the path of end-8a, or of end-8b with a limit."""
    query = f"?n={limit}" if limit is not None else ""
    return f"/v2/{_name(repository)}/tags/list{query}"


def referrers_path(repository: str, subject: Digest) -> str:
    """Return the path of end-12a."""
    return f"/v2/{_name(repository)}/referrers/{subject}"


def catalog_path() -> str:
    """Return the path of the catalog: extensions/README.md, a reserved prior extension."""
    return "/v2/_catalog"


def referrers_tag(subject: Digest) -> str:
    """Return the tag of the referrers tag schema, truncated as the specification says."""
    algorithm = subject.algorithm[:_REFERRERS_ALGORITHM_LENGTH]
    return f"{algorithm}-{subject.hex[:_REFERRERS_HEX_LENGTH]}"


def accept_header(media_type: str = "") -> str:
    """Return the Accept header for manifests, with a type that is not among the usual."""
    types = list(mediatype.ACCEPTED)
    if media_type and media_type not in types and mediatype.is_valid(media_type):
        types.insert(0, media_type)
    return ", ".join(types)


def _name(repository: str) -> str:
    if not is_repository(repository):
        raise InvalidName(f"repository {repository[:300]!r}: not a valid name")
    return repository


# Answers that are failures


def error_of(answer: Answer, subject: str) -> OrasfsError:
    """Return the exception for an answer that is not what was hoped for.

    Args:
        answer: of any status; one that is no failure breaks the protocol.
        subject: what was asked for, in words that begin the message.
    """
    code, words = error_words(answer)
    status = answer.status
    message = f"{subject}: {_status_words(answer)}"
    message += "".join(f": {part}" for part in (words, answer.refusal.words) if part)
    if status == 404:
        return NotFound(message)
    if status in (405, 501):
        return Unsupported(message)
    if status == 401 and not answer.refusal.is_known:
        return Unauthorized(message, status=status, code=code)
    if status in (401, 403):  # 401 to who is known: registries say so of what does not exist
        return Forbidden(message, status=status, code=code)
    if status == 429:
        return RateLimited(message, status=status, code=code)
    return RegistryFailure(message, status=status, code=code)


def is_refused_head(answer: Answer, path: str) -> bool:
    """Tell whether storage refused a HEAD: what it was redirected to is often signed for GET only.

    Args:
        answer: to the HEAD.
        path: of the API that was asked for; a mirror may have it below another one than `/v2`.
    """
    is_api = urlsplit(answer.url).path.endswith(path.removeprefix("/v2"))
    return answer.status in _NO_HEAD and not is_api


def storage_refusal(answer: Answer, where: str, subject: str) -> RegistryFailure:
    """Return the exception for storage that refuses the address which the registry has signed.

    It is no matter of who asks: the user's credentials are not for the storage.
    """
    words = error_words(answer)[1]
    place = _origin_of(where)
    message = f"{subject}: the storage {place} refuses ({answer.status}) where the registry led to"
    return RegistryFailure(f"{message}{': ' if words else ''}{words}", status=answer.status)


def _status_words(answer: Answer) -> str:
    if answer.status == 401 and answer.refusal.is_known:
        return "the registry refuses access (401)"
    return _STATUS_WORDS.get(answer.status, f"HTTP status {answer.status}")


_STATUS_WORDS = {
    401: "the registry wants credentials (401)",
    403: "the registry refuses access (403)",
    404: "not found",
    405: "not supported by the registry (405)",
    407: "the proxy wants credentials (407)",
    429: "the registry limits the rate of requests (429)",
    501: "not supported by the registry (501)",
}


def error_words(answer: Answer) -> tuple[str, str]:
    """Return the first error code and the registry's own words; "" where it has none.

    The specification asks for `{"errors": [...]}`, and allows any format on a 4xx.
    """
    text = answer.body[:MAX_ERROR_BYTES].decode("utf-8", "replace")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return "", _plain_words(answer, text)
    errors = document.get("errors") if isinstance(document, dict) else None
    found = [_one_error(error) for error in errors] if isinstance(errors, list) else []
    found = [(code, words) for code, words in found if words]
    if not found:
        return "", _plain_words(answer, text)
    return found[0][0], _clean("; ".join(words for _, words in found))


def _one_error(error: object) -> tuple[str, str]:
    if not isinstance(error, dict):
        return "", ""
    code, message = (str(error.get(key) or "") for key in ("code", "message"))
    return code[:100], ": ".join(part for part in (code, message) if part)


def _plain_words(answer: Answer, text: str) -> str:
    """Return what a person can read of a body in no known format: not a page of HTML."""
    if "html" in answer.headers.get("content-type", "").lower() or text.lstrip().startswith("<"):
        return ""
    return _clean(text)


def _clean(text: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in text[:_MAX_MESSAGE]).split())
    return words + ("…" if len(text) > _MAX_MESSAGE else "")


# Answers that are what was asked for


def descriptor_of(answer: Answer, reference: str) -> Descriptor | None:
    """Return the descriptor that the headers of a manifest's HEAD name, None if they do not.

    The reference client wants all of Content-Type, Content-Length and Docker-Content-Digest (the
    last unless `reference` is a digest); where one is missing or no use, a GET must tell.
    """
    media_type = mediatype.strip_parameters(answer.headers.get("content-type", ""))
    length = answer.headers.get("content-length", "")
    digest = header_digest(answer) or _digest(reference)
    if digest is None or not mediatype.is_valid(media_type) or media_type in _GENERIC_TYPES:
        return None
    if not length.isascii() or not length.isdigit() or len(length) > 18 or int(length) == 0:
        return None
    return Descriptor(media_type=media_type, digest=digest, size=int(length))


def header_digest(answer: Answer) -> Digest | None:
    """Return the Docker-Content-Digest header, None where it is missing or of no known kind."""
    return _digest(answer.headers.get("docker-content-digest", ""))


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text)
    except InvalidName:
        return None


def next_page(answer: Answer) -> str | None:
    """Return the absolute URL of the next page (Link, rel=next), None on the last one.

    It is followed as given: rebuilding `last=` breaks registries whose tokens are their own.

    Raises:
        RegistryFailure: it leads to another origin, or back to the same page.
    """
    for match in _LINK.finditer(answer.headers.get("link", "")):
        if not _NEXT.search(match[2]):
            continue
        try:
            target: str = urljoin(answer.url, match[1])
        except ValueError as error:
            raise RegistryFailure("the registry's Link header is no address") from error
        if _origin_of(target) != _origin_of(answer.url):
            raise RegistryFailure("the registry's Link header leads to another host")
        if target == answer.url:
            raise RegistryFailure("the registry's Link header leads back to the same page")
        return target
    return None


def _origin_of(url: str) -> str:
    return "/".join(url.split("/", 3)[:3]).lower()


def tags_of(answer: Answer) -> list[str]:
    """Return the tags of a tag list's page; names that are no tags are left out.

    Raises:
        RegistryFailure: the body is not a tag list.
    """
    return [name for name in _names(answer, "tags") if is_tag(name)]


def repositories_of(answer: Answer) -> list[str]:
    """Return the repositories of a catalog's page; names that are no repositories are left out.

    Raises:
        RegistryFailure: the body is not a catalog.
    """
    return [name for name in _names(answer, "repositories") if is_repository(name)]


def _names(answer: Answer, key: str) -> Iterable[str]:
    try:
        document = json.loads(answer.body)
        # Null and a missing list are empty ones: Go's JSON of no tags.
        names = document.get(key) or []
    except (ValueError, RecursionError, AttributeError) as error:
        raise RegistryFailure(f"the registry's list of {key} is not what it should be") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RegistryFailure(f"the registry's list of {key} is not a list of names")
    return names


def content_range(value: str) -> ContentRange | None:
    """Parse a Content-Range header (RFC 9110 section 14.4); None if it is not a valid one."""
    match = _CONTENT_RANGE.fullmatch(value.strip())
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        return None
    return ContentRange(first, last, total)


def retry_after_seconds(value: str, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header (RFC 9110 section 10.2.3), None if unusable.

    Args:
        value: the header: seconds, or an HTTP date.
        now: the time, with its zone.
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def retry_after_of(answer: Answer, now: datetime) -> float | None:
    """Return the seconds of an answer's Retry-After header, None where there is none to use."""
    return retry_after_seconds(answer.headers.get("retry-after", ""), now)


def warnings_of(answer: Answer) -> list[str]:
    """Return the texts of Warning headers (`299 - "text"`), as the specification has them."""
    texts = _WARNING.findall(answer.headers.get("warning", ""))
    return [_clean(re.sub(r"\\(.)", r"\1", text)) for text in texts]
