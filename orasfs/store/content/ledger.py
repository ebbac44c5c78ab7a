"""What is in the cache, how large, and when it was last used: a table that all mounts share.

Owns orasfs/ledger.sqlite in the cache. It is never right by itself: the files are. It may be lost,
damaged or unwritable at any time; then a scan (`orasfs.store.content.room`) makes it anew.

Blocking, for worker threads, but for `touch` and `note_origin`. May be used by several threads.

INVARIANT: the sum of all sizes is kept by the table itself (triggers), so that no one adds up.
INVARIANT: a read of the cache writes nothing: uses are noted in memory, an hour apart for one
file, and written with whatever is written next.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from time import time
from typing import TypeVar

from orasfs.store.content.entries import Entry, Kind

logger = logging.getLogger(__name__)

T = TypeVar("T")

TOUCH_SECONDS = 3600
_BUSY_SECONDS = 10.0
_VERSION = 1
_MAX_TOUCHED = 100_000
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SCHEMA = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    path TEXT PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL,
    target TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_by_use ON entries (kind = 'index', used, path);
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO totals VALUES ('bytes', 0), ('scanned', 0);
CREATE TABLE IF NOT EXISTS origins (
    digest TEXT NOT NULL, registry TEXT NOT NULL, repository TEXT NOT NULL,
    PRIMARY KEY (digest, registry, repository)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS inserted AFTER INSERT ON entries BEGIN
    UPDATE totals SET value = value + NEW.size WHERE name = 'bytes'; END;
CREATE TRIGGER IF NOT EXISTS deleted AFTER DELETE ON entries BEGIN
    UPDATE totals SET value = value - OLD.size WHERE name = 'bytes'; END;
CREATE TRIGGER IF NOT EXISTS updated AFTER UPDATE ON entries BEGIN
    UPDATE totals SET value = value + NEW.size - OLD.size WHERE name = 'bytes'; END;
PRAGMA user_version = 1;
COMMIT;
"""
_PUT = (
    "INSERT INTO entries VALUES (?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET"
    " kind = excluded.kind, size = excluded.size, target = excluded.target,"
    " used = max(used, excluded.used)"
)
_ORDER = "ORDER BY kind = 'index', used, path"
_FIELDS = "path, kind, size, used, target"

Origin = tuple[str, str]  # registry, repository


class Ledger:
    """The table of one cache.

    Args:
        path: the file, made when it is first needed.
        now: seconds since the epoch.

    Attributes:
        is_lost: the table was damaged, and is an empty one since; for whoever scans to reset.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time) -> None:
        self.is_lost = False
        self._path = path
        self._now = now
        self._lock = threading.Lock()  # around the connection
        self._connection: sqlite3.Connection | None = None
        self._is_usable = True
        self._touched: dict[str, int] = {}
        self._unwritten: dict[str, int] = {}
        self._origins: set[tuple[str, str, str]] = set()

    def __repr__(self) -> str:
        return f"<Ledger {self._path}{'' if self._is_usable else ' not usable'}>"

    def now(self) -> int:
        """Return the time that a use is noted with."""
        return int(self._now())

    def touch(self, path: str) -> None:
        """Note that a file is used now, in memory."""
        now = self.now()
        if now - self._touched.get(path, 0) >= TOUCH_SECONDS:
            if len(self._touched) >= _MAX_TOUCHED:
                self._touched.clear()
            self._touched[path] = self._unwritten[path] = now

    def note_origin(self, digest: str, origin: Origin) -> None:
        """Note in memory which repository has a blob."""
        self._origins.add((digest, *origin))

    def flush(self) -> Sequence[str]:
        """Write what `touch` and `note_origin` noted; return the files that are not known."""
        unwritten, self._unwritten = self._unwritten, {}
        origins, self._origins = self._origins, set()

        def write(connection: sqlite3.Connection) -> list[str]:
            statement = "UPDATE entries SET used = max(used, ?) WHERE path = ?"
            connection.executemany(
                "INSERT OR IGNORE INTO origins VALUES (?, ?, ?)", sorted(origins)
            )
            return [
                path
                for path, used in unwritten.items()
                if not connection.execute(statement, (used, path)).rowcount
            ]

        if not unwritten and not origins:
            return []
        return self._transact(write) or []

    def total(self) -> int:
        """Return the number of bytes of all entries."""
        return self._number("bytes")

    def scanned(self) -> int:
        """Return when the files were last compared with the table, 0 if never."""
        return self._number("scanned")

    def note_scanned(self) -> None:
        """Note that they were compared just now."""
        statement = "UPDATE totals SET value = ? WHERE name = 'scanned'"
        self._transact(lambda connection: connection.execute(statement, (self.now(),)).close())

    def reserve(self, entry: Entry, limit: int) -> bool:
        """Enter what is about to be written, unless all would be more than `limit` bytes."""

        def enter(connection: sqlite3.Connection) -> bool:
            old = connection.execute("SELECT size FROM entries WHERE path = ?", (entry.path,))
            (before,) = old.fetchone() or (0,)
            if _total(connection, "bytes") - before + entry.size > limit:
                return False
            connection.execute(_PUT, _row(entry))
            return True

        # Without a table there is no knowing: the disk then sets the limit.
        return self._transact(enter) is not False

    def mark(self, names: Iterable[str]) -> None:
        """Mark files that are about to be removed: they are the first to be looked at again."""
        values = [(name,) for name in names]
        statement = "UPDATE entries SET used = 0 WHERE path = ?"
        self._transact(lambda connection: connection.executemany(statement, values).close())

    def marked(self) -> Sequence[Entry]:
        """Return the files that were marked and have not been entered again."""
        found = [*self._select("WHERE kind = 'index' AND used = 0", ())]
        for entry in self.entries():
            if entry.used:
                break
            found.append(entry)
        return found

    def put(self, entries: Iterable[Entry], gone: Iterable[str] = ()) -> None:
        """Enter files as they are now, and take out those that are gone."""

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "DELETE FROM entries WHERE path = ?", [(path,) for path in gone]
            )
            connection.executemany(_PUT, [_row(entry) for entry in entries])

        self._transact(write)

    def oldest(self, count: int, after: Entry | None = None) -> Sequence[Entry]:
        """Return entries in the order in which they are to go, indexes last."""
        where, values = "", tuple[object, ...]()
        if after is not None:
            where = "WHERE (kind = 'index', used, path) > (?, ?, ?)"
            values = (int(after.kind is Kind.INDEX), after.used, after.path)
        return self._select(f"{where} {_ORDER} LIMIT ?", (*values, count))

    def below(self, prefix: str) -> Sequence[Entry]:
        """Return the entries whose path begins so."""
        return self._select("WHERE path >= ? AND path < ?", (prefix, prefix + "\U0010ffff"))

    def entries(self) -> Iterator[Entry]:
        """Yield all entries, in the order of `oldest`."""
        last: Entry | None = None
        while batch := self.oldest(1000, last):
            yield from batch
            last = batch[-1]

    def origins(self) -> dict[str, list[Origin]]:
        """Return the repositories that each digest was read from, as far as that was noted."""
        found: dict[str, list[Origin]] = {}
        statement = "SELECT digest, registry, repository FROM origins ORDER BY 1, 2, 3"
        for digest, registry, repository in (
            self._transact(lambda connection: connection.execute(statement).fetchall()) or ()
        ):
            found.setdefault(digest, []).append((registry, repository))
        return found

    def repositories(self, registry: str, digest: str, limit: int) -> Sequence[str]:
        """Return repositories of a registry that had a blob, what was noted last first."""
        noted = tuple(self._origins)  # a copy, which another thread does not change
        found = [path for key, host, path in noted if (key, host) == (digest, registry)]
        statement = "SELECT repository FROM origins WHERE digest = ? AND registry = ? LIMIT ?"
        values = (digest, registry, limit)
        rows = self._transact(lambda connection: connection.execute(statement, values).fetchall())
        return list(dict.fromkeys([*found, *(str(row[0]) for row in rows or ())]))[:limit]

    def close(self) -> None:
        """Write what is not written yet and close the file. Harmless twice."""
        self.flush()
        with self._lock:
            self._is_usable = False
            self._disconnect()

    def _number(self, name: str) -> int:
        return self._transact(lambda connection: _total(connection, name)) or 0

    def _select(self, clause: str, values: tuple[object, ...]) -> Sequence[Entry]:
        statement = f"SELECT {_FIELDS} FROM entries {clause}"  # noqa: S608 - our own words
        rows = self._transact(lambda connection: connection.execute(statement, values).fetchall())
        return [
            Entry(path, Kind(kind), size, used, target)
            for path, kind, size, used, target in rows or ()
        ]

    def _transact(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do it in one transaction; None if there is no table that can be used."""
        with self._lock:
            try:
                connection = self._connected()
                if connection is None:
                    return None
                with _transaction(connection):
                    return work(connection)
            except sqlite3.Error as error:
                self._give_up(error)
                return None

    def _connected(self) -> sqlite3.Connection | None:
        if self._connection is None and self._is_usable:
            self._connection = _open(self._path)
        return self._connection

    def _give_up(self, error: sqlite3.Error) -> None:
        """Begin anew with an empty table if the file is damaged, else do without for now."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes have more
        is_damaged = code in _DAMAGED
        if code == sqlite3.SQLITE_BUSY:
            logger.info("ledger is busy: path=%s", self._path)
            return
        self._disconnect()
        self._is_usable = self.is_lost = is_damaged
        logger.info("ledger not usable: path=%s damaged=%s: %s", self._path, is_damaged, error)
        if is_damaged:
            with contextlib.suppress(OSError):
                for suffix in ("-wal", "-shm", ""):
                    Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    with contextlib.suppress(OSError):  # SQLite then says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL").close()
        connection.execute("PRAGMA synchronous = NORMAL").close()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            connection.executescript("DROP TABLE entries; DROP TABLE totals; DROP TABLE origins")
        if version != _VERSION:
            connection.executescript(_SCHEMA).close()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _total(connection: sqlite3.Connection, name: str) -> int:
    row = connection.execute("SELECT value FROM totals WHERE name = ?", (name,)).fetchone()
    return int(row[0]) if row else 0


def _row(entry: Entry) -> tuple[str, str, int, int, str]:
    return entry.path, entry.kind.value, entry.size, entry.used, entry.target
