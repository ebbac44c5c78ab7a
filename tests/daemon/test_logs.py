"""Log records: the ring is bounded, and each output gets what it should."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orasfs.daemon import logs


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("orasfs.x", level, __file__, 1, text, (), None)


def test_the_ring_keeps_the_last_lines_and_cuts_long_ones() -> None:
    ring = logs.LogRing(lines=2)
    ring.setFormatter(logging.Formatter(logs.FORMAT))
    for text in ("one", "two", "t" * 10_000):
        ring.emit(record(text))
    first, second = ring.content().decode().splitlines()
    assert first.endswith("INFO orasfs.x two")
    assert len(second) == logs.MAX_LINE_CHARACTERS


def test_a_file_gets_the_records_and_so_does_the_ring(tmp_path: Path) -> None:
    path = tmp_path / "log"
    ring = logs.set_up("INFO", path, stderr_level="INFO")
    logging.getLogger("orasfs.x").info("mounted")
    logging.getLogger("orasfs.x").debug("too quiet")
    assert path.read_text().endswith("INFO orasfs.x mounted\n")
    assert ring.content() == path.read_bytes()


def test_stderr_gets_only_what_is_loud_enough(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.stdout)
    ring = logs.set_up("DEBUG", None, stderr_level="ERROR")
    logging.getLogger("orasfs.x").info("quiet")
    assert capsys.readouterr().out == ""
    assert b"quiet" in ring.content()


def test_the_libraries_below_are_quiet() -> None:
    ring = logs.set_up("DEBUG", None, stderr_level="ERROR")
    logging.getLogger("httpx").info("HTTP Request: GET https://signed.example/?secret")
    assert ring.content() == b""
