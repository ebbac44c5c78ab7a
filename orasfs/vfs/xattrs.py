"""Extended attributes: which there are, which a copy carries; pure.

Owns the names `user.oras.*` (docs/SEMANTICS.md). Knows descriptors, not where they are from.
"""

from collections.abc import Mapping, Sequence

from orasfs.errors import NoAttribute, Unsupported
from orasfs.oci.descriptor import ANNOTATION_TITLE, Descriptor

USER_PREFIX = "user."
PREFIX = f"{USER_PREFIX}oras."
ANNOTATION_PREFIX = f"{PREFIX}annotation."
MEDIA_TYPE = f"{PREFIX}mediatype"
ARTIFACT_TYPE = f"{PREFIX}artifacttype"
MAX_LIST_BYTES = 64 * 1024  # what the kernel takes (xattr(7))
MAX_NAME_BYTES = 255
MAX_VALUE_BYTES = 64 * 1024
_ACL_PREFIX = "system.posix_acl_"


def check_name(name: str) -> None:
    """Refuse a name that no node can have.

    Raises:
        Unsupported: it is an ACL.
        NoAttribute: it is of another namespace than `user`.
    """
    if name.startswith(_ACL_PREFIX):
        raise Unsupported("access control lists are not supported")
    if not name.startswith(USER_PREFIX):
        raise absent(name)


def check_settable(name: str) -> None:
    """Refuse a name that can be set nowhere.

    Raises:
        Unsupported: it is of another namespace than `user`.
    """
    if not name.startswith(USER_PREFIX):
        raise Unsupported(f"extended attribute {name}: only user.* is supported")


def absent(name: str) -> NoAttribute:
    """Return the error for a name that a node has not."""
    return NoAttribute(f"no extended attribute {name}")


def of_place(reference: str) -> Mapping[str, str]:
    """Return what every node of an artifact has."""
    return {f"{PREFIX}reference": reference, f"{PREFIX}state": "committed"}


def of_content(descriptor: Descriptor, *, is_verified: bool) -> Mapping[str, str]:
    """Return what a node has whose content a descriptor names."""
    found = {
        f"{PREFIX}digest": str(descriptor.digest),
        MEDIA_TYPE: descriptor.media_type,
        f"{PREFIX}size": str(descriptor.size),
        f"{PREFIX}verified": "true" if is_verified else "false",
    }
    if descriptor.artifact_type:
        found[ARTIFACT_TYPE] = descriptor.artifact_type
    return found


def of_annotations(annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Return one attribute an annotation."""
    return {f"{ANNOTATION_PREFIX}{key}": value for key, value in annotations.items()}


def encode(name: str, found: Mapping[str, str]) -> bytes:
    """Return the value of `name`.

    Raises:
        NoAttribute: it is not among those found.
    """
    value = found.get(name)
    if value is None:
        raise absent(name)
    return value.encode("utf-8", "surrogatepass")


def copied(annotations: Mapping[str, str]) -> Sequence[str]:
    """Return the names that a copy should carry: what a draft can be given.

    Names and values that the kernel would not take are left out, since `rsync -X` and `mv` fail
    at what is listed and cannot be had; and so is all behind 64 KiB.
    """
    names = [MEDIA_TYPE]
    total = len(MEDIA_TYPE) + 1
    for key in sorted(annotations):
        name = f"{ANNOTATION_PREFIX}{key}"
        length = _length(name)
        if key == ANNOTATION_TITLE or "\0" in key or length > MAX_NAME_BYTES:
            continue
        if _length(annotations[key]) > MAX_VALUE_BYTES:
            continue
        total += length + 1
        if total > MAX_LIST_BYTES:
            break
        names.append(name)
    return names


def _length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
