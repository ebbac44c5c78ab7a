"""`orasfs cache`: what is in the cache, how much, what may go, and whether it is right.

Owns the words and the forms of the answers; needs no mount, and is safe beside those there are.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

import click

from orasfs.cli.show import bytes_in_words
from orasfs.daemon.config import default_cache
from orasfs.daemon.pins import default_drafts, pinned_digests
from orasfs.errors import InvalidInput, NotFound
from orasfs.store import inspection, upkeep
from orasfs.store.content.budget import Budget, parse_budget
from orasfs.store.content.entries import Entry
from orasfs.store.content.room import Room, open_room
from orasfs.store.references import References
from orasfs.tree.names import show

_AGE = re.compile(r"(?P<number>[0-9]+)(?P<unit>[smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@click.group()
def command() -> None:
    """Look after the cache: $ORAS_CACHE, or $XDG_CACHE_HOME/orasfs."""


def _with_cache(function: Callable[..., None]) -> Callable[..., None]:
    """Add the option that says which cache, and `--json`."""

    @wraps(function)
    def run(cache: str | None, **words: Any) -> None:  # noqa: ANN401 - of the verb, which knows
        root = Path(cache).absolute() if cache else default_cache()
        if not (root / "blobs").is_dir():
            raise NotFound(f"{root}: there is no cache")
        room = open_room(root, Budget(), lambda: _pinned(root))
        references = References(root / "orasfs" / "references.sqlite")
        try:
            room.recover()
            room.scan()
            function(room=room, references=references, **words)
        finally:
            references.close()
            room.ledger.close()

    option = click.option("--cache", metavar="DIRECTORY", help="Another cache than the usual one.")
    return option(run)


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@command.command("ls")
@_JSON
@_with_cache
def ls(room: Room, references: References, *, as_json: bool) -> None:
    """List all files, the least recently used first."""
    found = list(upkeep.listing(room, references))
    if as_json:
        _print_json([_document(each) for each in found])
        return
    rows = [
        (
            each.entry.digest or each.entry.path,
            bytes_in_words(each.entry.size),
            _time(each.entry.used),
            each.entry.kind.value,
            " ".join(each.references),
        )
        for each in found
    ]
    _print_table(("DIGEST", "SIZE", "USED", "KIND", "REFERENCES"), rows)


@command.command("du")
@_JSON
@_with_cache
def du(room: Room, references: References, *, as_json: bool) -> None:
    """Add up the bytes on disk, by kind and by repository.

    A blob of several repositories counts in each; of some it is not known where they are from.
    """
    found = upkeep.usage(room, references)
    if as_json:
        _print_json(asdict(found))
        return
    rows = [(name, bytes_in_words(size)) for name, size in sorted(found.kinds.items())]
    _print_table(("KIND", "SIZE"), [*rows, ("total", bytes_in_words(found.total))])
    if found.repositories:
        click.echo()
        ordered = sorted(found.repositories.items(), key=lambda each: (-each[1], each[0]))
        _print_table(("REPOSITORY", "SIZE"), [(name, bytes_in_words(n)) for name, n in ordered])


@command.command("prune")
@click.option("--all", "is_all", is_flag=True, help="Remove all that is not in use.")
@click.option("--older-than", metavar="AGE", help="Remove what was not used for so long: 12h, 7d.")
@click.option("--to", "size", metavar="SIZE", help="Remove until the cache has this size: 10G.")
@_JSON
@_with_cache
@click.pass_context
def prune(
    ctx: click.Context,
    room: Room,
    references: References,  # noqa: ARG001 - of all verbs
    *,
    is_all: bool,
    older_than: str | None,
    size: str | None,
    as_json: bool,
) -> None:
    """Remove what was used least recently; what a mount has open, or a draft is based on, stays.

    Exit status 1: the size was not reached, since the rest is in use.
    """
    if (is_all, older_than is not None, size is not None).count(True) != 1:
        raise click.UsageError("say one of --all, --older-than AGE and --to SIZE")
    before = room.ledger.total()
    goal = before
    if size is not None:
        goal = parse_budget(size).limit(room.root)
        room.evict(max(0, before - goal))
    else:
        oldest = room.ledger.now() - (0 if older_than is None else _age(older_than))
        upkeep.prune(room, _pinned(room.root), lambda entry: is_all or entry.used < oldest)
    after = room.ledger.total()
    if as_json:
        _print_json({"freed": before - after, "left": after})
    else:
        click.echo(f"freed {bytes_in_words(before - after)}, left {bytes_in_words(after)}")
    if after > goal:
        click.echo("Error: the rest is in use", err=True)
        ctx.exit(1)


@command.command("verify")
@_JSON
@_with_cache
@click.pass_context
def verify(
    ctx: click.Context,
    room: Room,
    references: References,  # noqa: ARG001 - of all verbs
    *,
    as_json: bool,
) -> None:
    """Check all there is; what is wrong is taken out of use, and fetched when it is read again.

    Blobs are hashed. Small files of packed layers, which have no digests, are compared with their
    layer's blob; where that is not in the cache, only their sizes and places can be checked, and
    the layer is counted as not compared. Parts of layers are left out: each is checked by its
    digest when a mount first uses it.

    Exit status 1: something was wrong.
    """
    checked: list[Entry] = []
    unsure: list[Entry] = []
    faults = inspection.verify(room, checked.append, unsure.append)
    size = sum(entry.size for entry in checked)
    if as_json:
        document = {
            "checked": len(checked),
            "size": size,
            "not_compared": [entry.path for entry in unsure],
            "faults": [asdict(each) for each in faults],
        }
        _print_json(document)
    else:
        for fault in faults:
            click.echo(f"{fault.path}: {fault.reason}: {fault.action}", err=True)
            for name in fault.files:
                click.echo(f"  {show(name.encode('utf-8', 'surrogateescape'))}", err=True)
        click.echo(f"checked {len(checked)} files, {bytes_in_words(size)}: {len(faults)} wrong")
        if unsure:
            click.echo(f"not compared: {len(unsure)} unpacked layers, whose blobs are not here")
    if faults:
        ctx.exit(1)


def _pinned(root: Path) -> frozenset[str]:
    return pinned_digests(default_drafts(), root)


def _age(text: str) -> int:
    match = _AGE.fullmatch(text)
    if match is None:
        raise InvalidInput(f"{text!r} is no age: expected a number with s, m, h, d or w")
    return int(match["number"]) * _SECONDS[match["unit"]]


def _document(listed: upkeep.Listed) -> dict[str, object]:
    entry = listed.entry
    return {
        "path": entry.path,
        "digest": entry.digest or None,
        "kind": entry.kind.value,
        "size": entry.size,
        "used": datetime.fromtimestamp(entry.used, UTC).isoformat(),
        "references": list(listed.references),
    }


def _time(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _print_json(document: object) -> None:
    click.echo(json.dumps(document, indent=2))


def _print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns; sizes to the right, the last one as long as it is."""
    table = [head, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    for row in table:
        cells = [
            word.rjust(width) if name == "SIZE" else word.ljust(width)
            for name, word, width in zip(head, row, widths, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())
