"""Cursor pages: the lists of files and batches."""

from collections.abc import Mapping, Sequence
from typing import Any

from rowmill.simulator.batches.objects import BatchObject, FileObject
from rowmill.simulator.replies import RequestError


def page(
    oldest_first: Sequence[FileObject | BatchObject], query: Mapping[str, str], *, most: int, usual: int
) -> dict[str, Any]:
    """Cut a page, the newest first, as `limit`, `after` and `order` say. Raises `RequestError`."""
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise RequestError(400, f"Invalid 'order': expected 'asc' or 'desc', but got '{order}'.", param="order")
    text = query.get("limit", str(usual))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise RequestError(400, f"Invalid 'limit': expected 1 to {most}, but got '{text}'.", param="limit")
    things = oldest_first if order == "asc" else oldest_first[::-1]
    if (after := query.get("after")) is not None:
        places = [place for place, thing in enumerate(things) if thing.id == after]
        if not places:
            raise RequestError(400, f"Invalid 'after': there is no '{after}'.", param="after")
        things = things[places[0] + 1 :]
    data = things[: int(text)]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0].id if data else None,
        "last_id": data[-1].id if data else None,
        "has_more": len(things) > len(data),
    }
