"""The document of two runs that are compared, as `rowmill compare --html` draws it."""

from collections.abc import Mapping
from typing import Any

from tests.interface.ui.page_documents import SCRIPT, START, Document, merged


def compared(changes: Mapping[str, Any] | None = None) -> Document:
    """Return the document of two runs that are compared."""

    def side(number: int) -> Document:
        return {
            "run_dir": f"/data/labels-{number}.jsonl.run",
            "rows": 1000 + number,
            "failed": 12 * number,
            "usd": 0.4 + number / 10,
            "prompt_tokens": 140_000,
            "completion_tokens": 31_000 + number,
            "latency_ms": {"p50": 180.0 + number, "p90": 320.0, "p99": 600.0},
        }

    def row(index: int, diff: list[list[str]], *, failed: bool = False) -> Document:
        return {"index": index, "id": f"T-{index}", "failed": [False, failed], "diff": diff}

    document: Document = {
        "kind": "compare",
        "rowmill_version": "9.9.9",
        "made_at": START,
        "live": False,
        "sides": [side(1), side(2)],
        "common": 980,
        "whole": {"name": "", "both": 980, "same": 721},
        "fields": [{"name": "label", "both": 980, "same": 931}, {"name": "confidence", "both": 975, "same": 744}],
        "more_fields": 0,
        "only": [3, 17],
        "differing": [
            row(4, [["same", "the parcel is "], ["first", "late again"], ["second", "lost"]]),
            row(9, [["first", SCRIPT], ["second", "billing"]]),
            row(11, [["first", "مرحبا"], ["second", "failed: server_error"]], failed=True),
        ],
        "more_differing": 209,
    }
    return merged(document, changes or {})
