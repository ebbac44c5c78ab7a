"""What was last heard of names: digests of tags, tags of repositories, layers of directories.

Owns references.sqlite in the cache, so that after a remount with the registry down what was seen
can still be read. A wrong or missing answer costs only that: the file may be lost, damaged or not
writable at any time, and then the memory of this mount is what there is.

Short synchronous calls on the trio thread (SQLite in WAL mode, nothing waits for the disk); writes
happen only when an answer changed.
"""

import contextlib
import json
import logging
import os
import sqlite3
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from orasfs.errors import InvalidName
from orasfs.oci.descriptor import Descriptor
from orasfs.oci.digest import Digest

logger = logging.getLogger(__name__)

T = TypeVar("T")

_BUSY_SECONDS = 0.2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tags (
    registry TEXT NOT NULL, repository TEXT NOT NULL, tag TEXT NOT NULL,
    media_type TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (registry, repository, tag)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tag_lists (
    registry TEXT NOT NULL, repository TEXT NOT NULL, names TEXT NOT NULL,
    PRIMARY KEY (registry, repository)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layers (
    registry TEXT NOT NULL, repository TEXT NOT NULL, title TEXT NOT NULL, digest TEXT NOT NULL,
    seen INTEGER NOT NULL,
    PRIMARY KEY (registry, repository, title, digest)) WITHOUT ROWID;
"""
_LAYERS = 8  # that are kept of a title
_LATEST_LAYERS = """
SELECT digest FROM layers WHERE registry = ? AND repository = ? AND title = ?
ORDER BY seen DESC LIMIT 8
"""
_SEEN_LAYER = """
INSERT OR REPLACE INTO layers VALUES (?1, ?2, ?3, ?4, (
    SELECT COALESCE(MAX(seen), 0) + 1 FROM layers
    WHERE registry = ?1 AND repository = ?2 AND title = ?3))
"""
_OLD_LAYERS = """
DELETE FROM layers WHERE registry = ?1 AND repository = ?2 AND title = ?3 AND digest NOT IN (
    SELECT digest FROM layers WHERE registry = ?1 AND repository = ?2 AND title = ?3
    ORDER BY seen DESC LIMIT 8)
"""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class References:
    """The last known answers, by registry and repository."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tags: dict[tuple[str, str, str], Descriptor] = {}
        self._lists: dict[tuple[str, str], tuple[str, ...]] = {}
        self._layers: dict[tuple[str, str, str], tuple[Digest, ...]] = {}
        self._connection = self._connect()

    def __repr__(self) -> str:
        return f"<References {self._path if self._connection else 'in memory'}>"

    def tag(self, registry: str, repository: str, tag: str) -> Descriptor | None:
        """Return what the tag was when it was last resolved, None if it never was."""
        key = (registry, repository, tag)
        if key not in self._tags:
            row = self._query(
                "SELECT media_type, digest, size FROM tags"
                " WHERE registry = ? AND repository = ? AND tag = ?",
                key,
            )
            descriptor = _descriptor(row)
            if descriptor is None:
                return None
            self._tags[key] = descriptor
        return self._tags[key]

    def remember_tag(
        self, registry: str, repository: str, tag: str, descriptor: Descriptor
    ) -> None:
        """Keep what a tag was resolved to."""
        key = (registry, repository, tag)
        kept = Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
        if self.tag(*key) == kept:
            return
        self._tags[key] = kept
        self._execute(
            "INSERT OR REPLACE INTO tags VALUES (?, ?, ?, ?, ?, ?)",
            (*key, kept.media_type, str(kept.digest), kept.size),
        )

    def forget_tag(self, registry: str, repository: str, tag: str) -> None:
        """Drop a tag, because the registry says that it does not exist."""
        key = (registry, repository, tag)
        if self.tag(*key) is None:
            return
        del self._tags[key]
        self._execute("DELETE FROM tags WHERE registry = ? AND repository = ? AND tag = ?", key)

    def tags(self, registry: str, repository: str) -> tuple[str, ...] | None:
        """Return the last complete list of tags, None if there never was one."""
        key = (registry, repository)
        if key not in self._lists:
            row = self._query(
                "SELECT names FROM tag_lists WHERE registry = ? AND repository = ?", key
            )
            names = _names(row)
            if names is None:
                return None
            self._lists[key] = names
        return self._lists[key]

    def resolved_tags(self, registry: str, repository: str) -> tuple[str, ...]:
        """Return the tags that have been resolved one by one, in order of name."""
        here = {name for host, path, name in self._tags if (host, path) == (registry, repository)}
        statement = "SELECT tag FROM tags WHERE registry = ? AND repository = ?"
        rows = self._guarded(
            lambda connection: connection.execute(statement, (registry, repository)).fetchall()
        )
        return tuple(sorted(here.union(str(row[0]) for row in rows or ())))

    def repositories(self, registry: str) -> tuple[str, ...]:
        """Return the repositories of which a tag or a list of tags is known, in order of name."""
        here = {path for host, path, _ in self._tags if host == registry}
        here.update(
            path for (host, path), names in self._lists.items() if host == registry and names
        )
        statement = (
            "SELECT repository FROM tags WHERE registry = ?"
            " UNION SELECT repository FROM tag_lists WHERE registry = ? AND names <> '[]'"
        )
        rows = self._guarded(
            lambda connection: connection.execute(statement, (registry, registry)).fetchall()
        )
        return tuple(sorted(here.union(str(row[0]) for row in rows or ())))

    def registries(self) -> tuple[str, ...]:
        """Return the registries of which a tag or a list of tags is known, in order of name."""
        statement = "SELECT registry FROM tags UNION SELECT registry FROM tag_lists"
        rows = self._guarded(lambda connection: connection.execute(statement).fetchall())
        return tuple(sorted(str(row[0]) for row in rows or ()))

    def named(self) -> list[tuple[str, str]]:
        """Return (digest, REGISTRY/REPOSITORY:TAG) of all tags that are known."""
        statement = (
            "SELECT digest, registry || '/' || repository || ':' || tag FROM tags ORDER BY 2"
        )
        rows = self._guarded(lambda connection: connection.execute(statement).fetchall())
        return [(str(digest), str(name)) for digest, name in rows or ()]

    def remember_tags(self, registry: str, repository: str, names: Sequence[str]) -> None:
        """Keep a complete list of tags."""
        kept = tuple(names)
        if self.tags(registry, repository) == kept:
            return
        self._lists[registry, repository] = kept
        self._execute(
            "INSERT OR REPLACE INTO tag_lists VALUES (?, ?, ?)",
            (registry, repository, json.dumps(kept)),
        )

    def forget_tags(self, registry: str, repository: str) -> None:
        """Drop a list, because the registry says that there is no such repository."""
        if self.tags(registry, repository) is None:
            return
        del self._lists[registry, repository]
        self._execute(
            "DELETE FROM tag_lists WHERE registry = ? AND repository = ?", (registry, repository)
        )

    def layers(self, registry: str, repository: str, title: str) -> tuple[Digest, ...]:
        """Return the layers that a packed directory had, the latest seen first; at most 8."""
        key = (registry, repository, title)
        rows = self._guarded(lambda connection: connection.execute(_LATEST_LAYERS, key).fetchall())
        found = dict.fromkeys(self._layers.get(key, ()))
        for row in rows or ():
            with contextlib.suppress(InvalidName):
                found[Digest.parse(str(row[0]))] = None
        return tuple(found)[:_LAYERS]

    def remember_layer(self, registry: str, repository: str, title: str, digest: Digest) -> None:
        """Keep that a packed directory was seen with a layer."""
        key = (registry, repository, title)
        known = self.layers(*key)
        if known[:1] == (digest,):
            return
        self._layers[key] = tuple(dict.fromkeys((digest, *known)))[:_LAYERS]
        self._execute(_SEEN_LAYER, (*key, str(digest)))
        self._execute(_OLD_LAYERS, key)

    def close(self) -> None:
        """Close the file. Harmless twice; answers of this mount stay known."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _query(self, statement: str, values: tuple[str, ...]) -> tuple[object, ...] | None:
        def read(connection: sqlite3.Connection) -> tuple[object, ...] | None:
            row: tuple[object, ...] | None = connection.execute(statement, values).fetchone()
            return row

        return self._guarded(read)

    def _execute(self, statement: str, values: tuple[str | int, ...]) -> None:
        self._guarded(lambda connection: connection.execute(statement, values).close())

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do it if the file can be used; a damaged file is replaced by an empty one."""
        if self._connection is None:
            return None
        try:
            return work(self._connection)
        except sqlite3.Error as error:
            logger.info("references not kept: path=%s reason=%s", self._path, error)
            if _is_damaged(error):
                self.close()
                self._connection = self._recreate()
            return None

    def _connect(self) -> sqlite3.Connection | None:
        try:
            return _open(self._path)
        except sqlite3.Error as error:
            logger.info("references are not at hand: path=%s reason=%s", self._path, error)
            return self._recreate() if _is_damaged(error) else None

    def _recreate(self) -> sqlite3.Connection | None:
        try:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return _open(self._path)
        except (OSError, sqlite3.Error) as error:
            logger.info("references not recreated: path=%s reason=%s", self._path, error)
            return None


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _open_writable(path)
    except sqlite3.OperationalError:
        if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
            raise
        # On a disk that cannot be written what is there can be read.
        name = urllib.parse.quote(str(path.absolute()))
        connection = sqlite3.connect(f"file:{name}?immutable=1", uri=True, isolation_level=None)
        connection.execute("SELECT 1 FROM tags").close()
        return connection


def _open_writable(path: Path) -> sqlite3.Connection:
    with contextlib.suppress(OSError):  # SQLite then says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute("PRAGMA synchronous = NORMAL").close()
        connection.executescript(_SCHEMA).close()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _is_damaged(error: sqlite3.Error) -> bool:
    # Extended codes carry the primary one in their low byte.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _descriptor(row: tuple[object, ...] | None) -> Descriptor | None:
    match row:
        case (str(media_type), str(digest), int(size)):
            with contextlib.suppress(InvalidName):
                return Descriptor(media_type, Digest.parse(digest), size)
    return None


def _names(row: tuple[object, ...] | None) -> tuple[str, ...] | None:
    if row is None:
        return None
    try:
        names = json.loads(str(row[0]))
    except ValueError:
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None
