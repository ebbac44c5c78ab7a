"""What the table of the cache remembers besides sizes: where blobs were seen."""

from pathlib import Path

from orasfs.store.content.ledger import Ledger

HOST = "localhost:5000"


def test_where_a_blob_was_seen_is_known_at_once_and_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    assert ledger.repositories(HOST, "sha256:a", 8) == []
    ledger.note_origin("sha256:a", (HOST, "team/one"))
    ledger.note_origin("sha256:a", ("other", "team/two"))
    ledger.note_origin("sha256:b", (HOST, "team/three"))
    assert ledger.repositories(HOST, "sha256:a", 8) == ["team/one"]
    ledger.close()
    again = Ledger(path)
    again.note_origin("sha256:a", (HOST, "team/four"))
    assert again.repositories(HOST, "sha256:a", 8) == ["team/four", "team/one"]
    assert again.repositories(HOST, "sha256:a", 1) == ["team/four"]
    again.close()
