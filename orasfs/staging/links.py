"""Symbolic links in a staged tree: which become a file, which are packed, which are refused.

Owns that judgement; a staged link is never followed on disk. Pure.
INVARIANT: whatever a link says, only files of the same tree are reached.
"""

from collections import deque

from orasfs.errors import InvalidInput
from orasfs.staging.tree import StagedDirectory, StagedFile, StagedSymlink, find, walk

_MAX_FOLLOWED = 40  # as Linux, path_resolution(7)


def resolve_file(root: StagedDirectory, path: str) -> StagedFile:
    """Return the file of the tree that the link at `path` leads to.

    Raises:
        InvalidInput: it leads out of the tree, nowhere, in a circle, or to something else.
    """
    stack = [root]
    remaining = deque(path.split("/"))
    followed = 0
    while remaining:
        name = remaining.popleft()
        if name == "..":
            if len(stack) == 1:
                raise _refusal(path, "leads out of the draft")
            stack.pop()
        elif name not in {"", "."}:
            match stack[-1].entries.get(name):
                case StagedDirectory() as directory:
                    stack.append(directory)
                case StagedFile() as file if not remaining:
                    return file
                case StagedSymlink(target=target) if target.startswith("/"):
                    raise _refusal(path, "leads out of the draft")
                case StagedSymlink(target=target) if followed < _MAX_FOLLOWED:
                    followed += 1
                    remaining.extendleft(reversed(target.split("/")))
                case _:
                    raise _refusal(path, "does not lead to a file of the draft")
    raise _refusal(path, "leads to a directory")


def _refusal(path: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"symbolic link {path!r} {why}, so it cannot be a layer: replace it by a file"
    )


def check_links(title: str, directory: StagedDirectory) -> None:
    """Check that each link in a packed directory is restored, and leads where it leads now.

    The reference client judges the target's text (content/file/utils.go, ensureLinkPath): it is
    relative, stays within the directory, and passes no other link. `..` after a link is refused
    as well: there the text says another thing than the kernel.

    Raises:
        InvalidInput: a link would make every pull of the artifact fail.
    """
    found = unrestorable_link(title, directory)
    if found:
        raise InvalidInput(
            f"{found}, which `oras pull` refuses: replace it, or allow it with links=any"
        )


def unrestorable_link(title: str, directory: StagedDirectory) -> str:
    """Return the first link that no pull would restore, and why, in words; "" if there is none."""
    for path, node in walk("", directory):
        if isinstance(node, StagedSymlink):
            why = _not_restorable(title, directory, path, node.target)
            if why:
                return f"symbolic link {f'{title}/{path}'!r} {why}"
    return ""


def _not_restorable(title: str, directory: StagedDirectory, path: str, target: str) -> str:
    """Return why the link would not be restored, "" if it would be."""
    if target.startswith("/"):
        return f"has the absolute target {target!r}"
    inside = title.split("/")
    parts = [*inside, *path.split("/")[:-1]]
    for part in target.split("/"):
        if part == "..":
            link = _link_among(directory, parts[len(inside) :])
            if link:
                return f"leads through the symbolic link {f'{title}/{link}'!r}"
            if not parts:
                return f"leads out of the artifact, to {target!r}"
            parts.pop()
        elif part not in {"", "."}:
            parts.append(part)
    if parts[: len(inside)] != inside:
        return f"leads out of {title!r}, to {target!r}"
    link = _link_among(directory, parts[len(inside) : -1])
    return f"leads through the symbolic link {f'{title}/{link}'!r}" if link else ""


def _link_among(directory: StagedDirectory, parts: list[str]) -> str:
    """Return the first symbolic link that one passes or reaches by the parts, "" if none."""
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        if isinstance(find(directory, path), StagedSymlink):
            return path
    return ""
