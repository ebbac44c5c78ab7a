"""`MOUNT/.orasfs/commits.json`: what each commit is doing, or how it ended.

Owns the form of that document. Pure: reports go in.
"""

import errno
from collections.abc import Iterable
from typing import Any

from orasfs.errors import OrasfsError
from orasfs.fuse.errno import errno_of
from orasfs.staging.committer import Report
from orasfs.staging.progress import BlobProgress


def commit_document(report: Report) -> dict[str, Any]:
    """Return one commit: sizes in bytes, `there` counts the blobs that need nothing more."""
    progress = report.progress
    totals = progress.totals()
    return {
        "draft": report.draft_id,
        "name": report.label,
        "ticket": report.ticket,
        "phase": progress.phase.value,
        "blobs": totals.blobs,
        "there": totals.there,
        "skipped": totals.skipped,
        "size": totals.size,
        "sent": totals.sent,
        "skipped_size": totals.skipped_size,
        "active": [
            {
                "name": blob.name,
                "digest": str(blob.digest),
                "size": blob.size,
                "sent": blob.sent,
            }
            for blob in progress.active()
        ],
        "warnings": list(progress.warnings),
        "reference": report.reference or None,
        "digest": str(report.descriptor.digest) if report.descriptor else None,
        "error": error_document(report.error) if report.error else None,
    }


def error_document(error: OrasfsError) -> dict[str, str]:
    """Return a failure: its class, its errno by name, and its words."""
    number = errno_of(error)
    return {
        "kind": type(error).__name__,
        "errno": errno.errorcode.get(number, str(number)),
        "message": str(error),
    }


def upload_documents(blobs: Iterable[BlobProgress]) -> list[dict[str, str | int | None]]:
    """Return blobs that are being sent, in the form of `transfers.json`.

    The digest of a file that is sent while it is written is not known.
    """
    return [
        {
            "digest": str(blob.digest) if blob.digest else None,
            "size": blob.size,
            "sent": blob.sent,
            "state": "sending",
        }
        for blob in blobs
    ]
