"""`MOUNT/.orasfs/fetches.json`: what each fetch is doing, or how it ended.

Owns the form of that document. Pure: orders go in.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from orasfs.daemon.commits import error_document
from orasfs.store.options import Transfer
from orasfs.vfs.fetching import FetchOrder, received


def fetch_documents(
    orders: Iterable[FetchOrder], transfers: Sequence[Transfer]
) -> list[dict[str, Any]]:
    """Return the orders; sizes in bytes, of the blobs that are known to be wanted so far."""
    arriving = {each.digest: each.received for each in transfers}
    return [
        {
            "ticket": order.ticket,
            "phase": order.phase.value,
            "files": order.files,
            "blobs": len(order.sizes),
            "there": len(order.there),
            "size": sum(order.sizes.values()),
            "received": received(order, arriving),
            "failures": order.failure_count,
            "messages": list(order.failures),
            "error": error_document(order.error) if order.error else None,
        }
        for order in orders
    ]
