"""docs/CONFIGURATION.md documents every option there is, and none that there is not."""

import re
from pathlib import Path

import pytest

from orasfs.daemon.config import option_names, parse_options

DOCUMENT = Path(__file__).parent.parent / "docs" / "CONFIGURATION.md"
EXAMPLES = {
    "HOST[:PORT]": "localhost:5000",
    "HOST:PORT:ADDRESS[:PORT]": "registry.example:443:127.0.0.1:5000",
    "SECONDS": "5",
    "NUMBER": "5",
    "OS/ARCH[/VARIANT]": "linux/arm64/v8",
    "GLOB": "text/*",
    "DIRECTORY": "cache",
    "SIZE": "30%",
    "PATH": "log",
    "LEVEL": "DEBUG",
}


def documented() -> list[str]:
    """Return the words of the first column of the table of options."""
    section = DOCUMENT.read_text("utf-8").partition("## Options")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("word", documented())
def test_a_documented_option_is_accepted(word: str) -> None:
    name, equals, value = word.partition("=")
    example = f"{name}{equals}{EXAMPLES.get(value, value)}"
    assert parse_options([example]) is not None


def test_every_option_is_documented() -> None:
    assert {word.partition("=")[0] for word in documented()} >= set(option_names())
