"""The project as a whole: what it says, how large its parts are, what its scripts are."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = (
    "README.md",
    "docs/SEMANTICS.md",
    "docs/ARCHITECTURE.md",
    "docs/CONCURRENCY.md",
    "docs/ERRORS.md",
    "docs/CONFIGURATION.md",
    "docs/INDEX.md",
    "docs/DEVELOPMENT.md",
    "docs/CHANGELOG.md",
)
MAX_MODULE_LINES = 400
MAX_CLASS_LINES = 250
MAX_FUNCTION_LINES = 40

# In pieces, so that this file does not say what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        [
            r"/(?:home|Users)/[a-z]",
            r"(?<![\w.])/r" + "oot/",
            r"(?<![\w.])/wo" + "rk/",
            "/opt/" + "venv",
            "/opt/" + "pypi",
            r"\bpypi\.or" + "g",
            r"pythonhosted\.or" + "g",
            r"npmjs\.(?:or|co)" + "[gm]",
            r"deb\.debian\.or" + "g",
            r"archive\.ubuntu\.co" + "m",
            r"proxy\.golang\.or" + "g",
            r"crates\.i" + "o",
            r"\bllm\b",
            r"\b(?:inter" + r"face|fa" + r"cts|bri" + r"ef)\.md",
            r"\bcla" + "ude",
            r"\banthr" + "opic",
        ]
    ),
    re.IGNORECASE,
)


def project_files() -> list[Path]:
    """Return the files under version control, or all but the hidden ones in a bare copy."""
    if (ROOT / ".git").exists():
        listing = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z"], check=True, capture_output=True, timeout=60
        )
        paths = [ROOT / os.fsdecode(name) for name in listing.stdout.split(b"\0") if name]
    else:
        paths = [
            path
            for path in ROOT.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
        ]
    golden = ROOT / "tests" / "golden"
    return [path for path in paths if path.is_file() and golden not in path.parents]


def modules() -> list[Path]:
    return sorted((ROOT / "orasfs").rglob("*.py"))


def test_no_file_speaks_of_the_place_it_was_written_in() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in project_files()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_exists_and_begins_with_its_title(name: str) -> None:
    assert (ROOT / name).read_text("utf-8").startswith("# ")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_between_documents_lead_somewhere(name: str) -> None:
    document = ROOT / name
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_no_module_is_longer_than_one_idea() -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in modules()
    }
    assert {name: n for name, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def code_lines(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a definition without those of its docstring."""
    first = node.body[0]
    has_docstring = ast.get_docstring(node, clean=False) is not None
    described = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - described


def test_no_function_and_no_class_is_too_long() -> None:
    found = {}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                limit = MAX_CLASS_LINES
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                limit = MAX_FUNCTION_LINES
            else:
                continue
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > limit:
                found[f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"] = length
    assert found == {}


def test_package_files_hold_a_docstring_and_nothing_else() -> None:
    """Re-exports would pull the network's libraries into the pure modules."""
    for path in (ROOT / "orasfs").rglob("__init__.py"):
        body = ast.parse(path.read_text("utf-8")).body
        assert [type(node) for node in body] == [ast.Expr], path


@pytest.mark.parametrize("name", ["setup", "lint", "check", "test", "quickstart"])
def test_a_script_runs_and_is_correct_bash(name: str) -> None:
    script = ROOT / "scripts" / name
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True, timeout=20)


def test_continuous_integration_runs_the_tests_everyone_runs() -> None:
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text("utf-8")


@pytest.mark.parametrize("verb", ["mount", "umount", "status", "doctor"])
def test_the_help_mentions_each_verb(verb: str) -> None:
    command = [sys.executable, "-m", "orasfs", "--help"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert re.search(rf"^\s+{verb}\b", answer.stdout, re.MULTILINE)
