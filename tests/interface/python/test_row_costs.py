"""What single rows have cost: by who answered them, at that model's price; nothing where nothing was asked for them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rowmill.core.amounts import Spent
from rowmill.core.config import Config, parse
from rowmill.core.counts import Totals
from rowmill.core.reports import Cost, CostLine, RunReport
from rowmill.interface.python.place import MapPlace
from rowmill.interface.python.row_costs import RowCosts
from tests.interface.python.test_calls import ended

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}


def config(**task: Any) -> Config:
    return parse(
        {
            "input": {"path": "in.jsonl"},
            "output": {"path": "out.jsonl"},
            "task": {"model": "m", "prompt": "{text}", **task},
            "provider": [
                {"name": "a", "base_url": "http://127.0.0.1:9/v1"},
                {"name": "b", "base_url": "http://127.0.0.1:8/v1", "model": "n"},
            ],
            "prices": {"m": {"input": 1.0, "output": 2.0}, "n": {"input": 3.0, "cached_input": 0.0, "output": 0.0}},
        },
        "test",
    )


def costs(
    folder: Path, rows: list[dict[str, Any]], asked: Config, *, modes: tuple[str, ...] = ("live",), failed: int = 0
) -> list[float | None]:
    """Return the costs of rows with these members, in millionths of a dollar."""
    place = MapPlace(folder, kept=True)
    lines = []
    for index, row in enumerate(rows):
        meta = {"provider": row.pop("provider", "a"), "requests": row.pop("requests", 1)}
        lines.append(json.dumps({"index": index, "output": "x", "model": "m", "usage": USAGE, "meta": meta, **row}))
    place.results.write_text("\n".join(lines) + "\n")
    lined = tuple(CostLine(provider="a", model="m", mode=mode, spent=Spent(), usd=1.0) for mode in modes)
    report: RunReport = msgspec.structs.replace(
        ended(0, finished=True)[0],
        cost=Cost(usd=90e-6, retries_usd=30e-6, lines=lined),
        totals=Totals(rows=len(rows), failed=failed),
    )
    found = list(RowCosts(asked, place, report).each(place.each()))
    return [None if each.cost is None else round(each.cost * 1e6, 6) for each in found]


def test_a_row_costs_what_its_reply_took_at_the_price_of_who_gave_it(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {},
        {"provider": "b", "model": "n-2026-01-02"},  # as many providers call it
        {"requests": 0},  # of the cache, or of another row
        {"output": None, "model": None, "usage": None, "error": {"class": "timeout"}},
        {"usage": None},
    ]
    assert costs(tmp_path, rows, config()) == [20.0, 18.0, 0.0, None, None]


def test_a_batch_costs_less_and_what_nobody_can_tell_is_not_told(tmp_path: Path) -> None:
    assert costs(tmp_path, [{}], config(), modes=("batch",)) == [10.0]
    assert costs(tmp_path, [{}], config(), modes=("batch", "live")) == [None]


@pytest.mark.parametrize("task", [{"rows_per_request": 5}, {"api": "embeddings"}])
def test_rows_that_share_a_request_share_its_cost(tmp_path: Path, task: dict[str, Any]) -> None:
    rows: list[dict[str, Any]] = [
        {"usage": None, "requests": 1},
        {"usage": None, "requests": 0},
        {"output": None, "model": None, "usage": None, "error": {"class": "timeout"}},
    ]
    assert costs(tmp_path, rows, config(**task), failed=1) == [30.0, 30.0, None]
