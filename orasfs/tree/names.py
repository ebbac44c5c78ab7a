"""Which names may become files: the rules for titles and for the members of a tar.

This is the file a security review opens: no other module judges a path. Pure.
INVARIANT: a cleaned path is relative, has no empty, `.` or `..` component and no NUL, and each of
its components fits into a directory entry, so it stays below the directory it is joined to.

Cleaning is lexical, as Go's `filepath.Clean`, which the reference client uses. Control characters,
newlines and backslashes are legal in file names and pass.
"""

import re

from orasfs.errors import ContentRefused

MAX_PATH_BYTES = 4096  # PATH_MAX: extracting a longer one fails
MAX_COMPONENT_BYTES = 255  # NAME_MAX of every common filesystem
MAX_TITLE_DEPTH = 128  # components of a title; bounds what a small manifest makes us build

_SHOWN_BYTES = 200
_CLEAN = re.compile(rb"(?=.{,255}\Z)[^/.\0][^/\0]*(?:/[^/.\0][^/\0]*)*", re.DOTALL)


def show(path: bytes) -> str:
    """Return `path` quoted for a sentence, shortened, as text that any encoding can hold."""
    text = path[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return repr(text) + ("…" if len(path) > _SHOWN_BYTES else "")


def clean_title(title: str) -> str:
    """Return the relative path a title stands for; "" where it names nothing (empty, `.`).

    Raises:
        ContentRefused: it would leave the artifact's directory (the reference client says "path
            traversal disallowed"), or no filesystem can hold the name.
    """
    try:
        path = title.encode()
    except UnicodeEncodeError as error:
        raise ContentRefused(f"title {title[:80]!a}: not valid Unicode") from error
    try:
        cleaned = clean_path(path)
    except ContentRefused as error:
        raise ContentRefused(f"title: path traversal disallowed: {error}") from error
    if cleaned.count(b"/") >= MAX_TITLE_DEPTH:
        raise ContentRefused(
            f"title {show(path)}: more than {MAX_TITLE_DEPTH} directories within one another"
        )
    return cleaned.decode()


def is_clean(path: bytes) -> bool:
    """Tell whether `clean_path` gives the path as it is; not of all such, but of nearly all."""
    return _CLEAN.fullmatch(path) is not None


def clean_path(path: bytes) -> bytes:
    """Return a member's or title's relative path, b"" for the top itself.

    Raises:
        ContentRefused: it is absolute, leads out by `..`, holds a NUL, or is too long.
    """
    trimmed = path.removeprefix(b"./").removesuffix(b"/")  # as tar writes them
    if is_clean(trimmed):
        return trimmed
    if path.startswith(b"/"):
        raise ContentRefused(f"absolute path {show(path)}")
    if b"\0" in path:
        raise ContentRefused(f"NUL in the path {show(path)}")
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                raise ContentRefused(f"leaves the directory: {show(path)}")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    cleaned = b"/".join(parts)
    if len(cleaned) > MAX_PATH_BYTES:
        raise ContentRefused(f"path of {len(cleaned)} bytes: {show(path)}")
    if len(cleaned) > MAX_COMPONENT_BYTES and max(map(len, parts)) > MAX_COMPONENT_BYTES:
        raise ContentRefused(f"name over {MAX_COMPONENT_BYTES} bytes in {show(path)}")
    return cleaned
