"""Whether a tar may be a packed directory: what the reference client refuses to extract. Pure.

Owns the judgement of a whole layer; single names are judged by `orasfs.tree.names` and conflicts
between members by `orasfs.tree.indexbuilder`, which records them as problems. Source: oras-go
content/file/utils.go (extractTarDirectory).

What is decided otherwise than there:
* Parents that are no members of the tar are accepted; oras-go fails to open the file.
* A symlink may lead through another one, unless it then goes up: `l/..` is not where the words
  say. oras-go looks at what happens to be extracted already.
* A hard link to a symlink is judged in the directory in which it is, like a symlink.
"""

from orasfs.errors import ContentRefused
from orasfs.tree.layerindex import ROOT, LayerIndex, MemberKind


def check_packed(index: LayerIndex, root: str) -> None:
    """Check the members of a layer that is to be the directory `root`.

    Args:
        index: of the layer.
        root: the cleaned title of the layer.

    Raises:
        ContentRefused: a member lies outside of `root`, is below a symlink or a file, or links out
            of it; the message names the member.
    """
    if index.problems:
        raise ContentRefused(f"layer {root!r}: {index.problems[0]}")
    top = _enter(index, root)
    if top is None:
        return
    stack = [(top, root)]
    while stack:
        directory, path = stack.pop()
        for entry in index.children(directory):
            ordinal = index.resolve(entry)
            kind = index.kind_of(ordinal)
            if kind == MemberKind.DIRECTORY:
                stack.append((ordinal, f"{path}/{index.name_of(entry)}"))
            elif kind == MemberKind.SYMLINK:
                target = index.member(ordinal).target
                _check_target(index, root, f"{path}/{index.name_of(entry)}", target)


def _enter(index: LayerIndex, root: str) -> int | None:
    """Return the ordinal of `root`, None in an empty tar; nothing may be beside the way to it."""
    ordinal = ROOT
    walked: list[str] = []
    for name in root.split("/"):
        if walked and not index.is_implicit(ordinal):
            raise ContentRefused(f"layer {root!r}: {'/'.join(walked)!r} is outside of it")
        found: int | None = None
        for entry in index.children(ordinal):
            if index.name_of(entry) != name:
                outside = "/".join([*walked, index.name_of(entry)])
                raise ContentRefused(f"layer {root!r}: {_shown(outside)} is outside of it")
            found = index.resolve(entry)
        if found is None:
            return None
        walked.append(name)
        if index.kind_of(found) != MemberKind.DIRECTORY:
            raise ContentRefused(f"layer {root!r}: {_shown('/'.join(walked))} is no directory")
        ordinal = found
    return ordinal


def _check_target(index: LayerIndex, root: str, path: str, target: str) -> None:
    """Check that a symlink stays below `root`, by its words and through other symlinks."""
    if target.startswith("/"):
        raise ContentRefused(
            f"layer {root!r}: symlink {_shown(path)} is absolute: {_shown(target)}"
        )
    parts = path.split("/")[:-1]
    for number, part in enumerate(target.split("/")):
        if part == "..":
            if not parts:
                break
            if number and _passes_symlink(index, parts):
                raise ContentRefused(
                    f"layer {root!r}: no symbolic link allowed in {_shown(target)}, where "
                    f"{_shown(path)} leads"
                )
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    else:
        if parts[: root.count("/") + 1] == root.split("/"):
            return
    raise ContentRefused(
        f"layer {root!r}: symlink {_shown(path)} leads outside of it: {_shown(target)}"
    )


def _passes_symlink(index: LayerIndex, parts: list[str]) -> bool:
    """Tell whether any part of a path, the last one too, is a symlink."""
    ordinal = ROOT
    for part in parts:
        found = index.find(ordinal, part)
        if found is None:
            return False
        ordinal = found
        if index.kind_of(ordinal) == MemberKind.SYMLINK:
            return True
    return False


def _shown(name: str) -> str:
    return ascii(name[:200])
