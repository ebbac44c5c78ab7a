"""Blob uploads of the distribution API as values: paths out, answers in. Sans-io.

Owns the addresses of upload sessions, what their headers say, and what a refused push means.
Knows no HTTP library and no clock.

Source: distribution-spec v1.1.1 spec.md, Pushing blobs (end-4a, 5, 6, 11, 13) and, for ending
a session, end-14 of what follows it. What registries really say is quoted where a rule follows.
"""

import re
from urllib.parse import quote, urljoin

from orasfs.errors import (
    ContentMismatch,
    OrasfsError,
    QuotaExceeded,
    RegistryFailure,
    TagImmutable,
    TooLarge,
)
from orasfs.oci.digest import Digest
from orasfs.oci.reference import is_repository
from orasfs.registry import protocol, route
from orasfs.registry.protocol import Answer

_RANGE = re.compile(r"(?:bytes[= ])?0-(\d{1,18})")
# Harbor's refusal speaks of an "upper limit" of "storage resource", GitLab's and Quay's of quotas.
_QUOTA = re.compile(
    r"quota|upper limit|storage limit|insufficient storage|out of space", re.IGNORECASE
)
# Harbor: 412 "configured as immutable"; ECR: 400 "cannot be overwritten because … immutable";
# Quay: 409 TAG_ALREADY_EXISTS.
_IMMUTABLE = re.compile(r"immutab|cannot be overwritten|tag.{0,160}already exists", re.IGNORECASE)
_IMMUTABLE_CODES = frozenset({"TAG_ALREADY_EXISTS", "TAG_INVALID"})
_REFUSALS = frozenset({400, 403, 405, 409, 412})


def uploads_path(repository: str) -> str:
    """Return the path of end-4a."""
    if not is_repository(repository):
        raise RegistryFailure(f"repository {repository[:300]!r}: not a valid name")
    return f"/v2/{repository}/blobs/uploads/"


def mount_path(repository: str, digest: Digest, from_repository: str) -> str:
    """Return the path of end-11."""
    source = quote(from_repository, safe="")
    return f"{uploads_path(repository)}?mount={quote(str(digest), safe=':')}&from={source}"


def session_of(answer: Answer, subject: str) -> str:
    """Return the absolute URL of the upload session that an answer names.

    Each answer's Location must be used for the next request; it may be relative.

    Raises:
        RegistryFailure: there is none, or it is of another origin, where neither the content nor
            the credentials may go (as the reference client, GHSA-jxpm-75mh-9fp7).
    """
    location = answer.headers.get("location", "")
    if not location:
        raise RegistryFailure(f"{subject}: the registry does not say where to upload to")
    try:
        target = urljoin(answer.url, location).partition("#")[0]
    except ValueError as error:
        raise RegistryFailure(f"{subject}: the registry's upload address is none") from error
    if route.origin(target) != route.origin(answer.url):
        scheme, host, port = route.origin(target)
        raise RegistryFailure(
            f"{subject}: the registry wants the upload sent to {scheme}://{host}:{port}, "
            "which is refused; its own address may be configured wrongly"
        )
    return target


def completion_url(session: str, digest: Digest) -> str:
    """Return the URL whose PUT ends a session (end-6); what it has of a query is kept."""
    joint = "&" if "?" in session else "?"
    return f"{session}{joint}digest={quote(str(digest), safe=':')}"


def minimum_chunk(answer: Answer) -> int:
    """Return the OCI-Chunk-Min-Length in bytes, 0 where there is none."""
    value = answer.headers.get("oci-chunk-min-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else 0


def received_bytes(answer: Answer) -> int | None:
    """Return how many bytes the registry says it has; None if it does not say.

    `Range: 0-0` is nothing, not one byte: docker-registry says so of a new session.
    """
    match = _RANGE.fullmatch(answer.headers.get("range", "").strip())
    if match is None:
        return None
    last = int(match[1])
    return last + 1 if last else 0


def is_too_much_at_once(answer: Answer) -> bool:
    """Tell whether a monolithic upload was refused for its size or its form.

    413 comes from proxies and from workers with a limit of the body, 416 from registries that know
    chunks only.
    """
    if answer.status in (413, 416):
        return True
    return answer.status in (400, 405, 501) and protocol.error_words(answer)[0] in (
        "UNSUPPORTED",
        "SIZE_INVALID",
    )


def push_error(answer: Answer, subject: str) -> OrasfsError:
    """Return the exception for a refused push of a blob or a manifest."""
    code, words = protocol.error_words(answer)
    error = protocol.error_of(answer, subject)
    if answer.status == 507 or (
        answer.status in (*_REFUSALS, 413) and _QUOTA.search(words) is not None
    ):
        return QuotaExceeded(_because(subject, "no room left", words), status=answer.status)
    if answer.status == 413:
        return TooLarge(_because(subject, "too large for the registry", words), status=413)
    if code == "DIGEST_INVALID":
        return ContentMismatch(_because(subject, "the registry found another digest", words))
    if code in ("MANIFEST_BLOB_UNKNOWN", "BLOB_UPLOAD_UNKNOWN"):
        # Not `NotFound`: the name is there, something below it is missing.
        return RegistryFailure(str(error), status=answer.status, code=code)
    return error


def tag_error(answer: Answer, subject: str) -> OrasfsError:
    """Return the exception for a refused push of a manifest under a tag."""
    code, words = protocol.error_words(answer)
    error = push_error(answer, subject)
    if isinstance(error, QuotaExceeded) or answer.status not in _REFUSALS:
        return error
    if code in _IMMUTABLE_CODES or _IMMUTABLE.search(words) is not None:
        message = _because(subject, "the registry lets nobody move this tag", words)
        return TagImmutable(message, status=answer.status, code=code)
    return error


def _because(subject: str, fact: str, words: str) -> str:
    return f"{subject}: {fact}{': ' if words else ''}{words}"
