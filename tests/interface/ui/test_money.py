"""What there is to say of money, before and at the end."""

from typing import Any

import msgspec
import pytest

from rowmill.core.amounts import Spent
from rowmill.core.reports import Cost, CostLine
from rowmill.interface.ui import money
from tests.interface.ui.snapshots import COST


def line(model: str, usd: float | None, *, mode: str = "live", provider: str = "main", **spent: int) -> CostLine:
    figures = {"requests": 1000, "prompt_tokens": 1_200_000, "completion_tokens": 400_000} | spent
    return CostLine(provider=provider, model=model, mode=mode, spent=Spent(**figures), usd=usd)


def cost(*lines: CostLine, **more: Any) -> Cost:
    known = [each.usd for each in lines]
    return Cost(usd=None if None in known else sum(usd or 0.0 for usd in known), lines=lines, **more)


def test_without_a_cost_nothing_is_said() -> None:
    assert money.so_far(None) == []
    assert money.summed_up(None) == []
    assert money.table(None) == []
    assert money.budget(None) == ""


@pytest.mark.parametrize(
    ("change", "groups"),
    [
        ({}, ["cost $1.23 of $5.00, about $3.10 in all"]),
        ({"max_usd": None}, ["cost $1.23, about $3.10 in all"]),
        ({"projected_usd": None}, ["cost $1.23 of $5.00"]),
        ({"projected_usd": 1.231}, ["cost $1.23 of $5.00"]),
        ({"usd": 0.0042, "max_usd": None, "projected_usd": 0.0123}, ["cost $0.0042, about $0.012 in all"]),
        ({"max_tokens": 3e6}, ["cost $1.23 of $5.00, about $3.10 in all", "budget 1.6M of 3.0M tokens"]),
        ({"usd": None, "max_usd": None, "projected_usd": None}, []),
        ({"usd": 0.0, "max_usd": None, "projected_usd": None}, []),
        ({"usd": 0.0, "projected_usd": None}, ["cost $0.00 of $5.00"]),
        ({"usd": None, "max_tokens": 3e6}, ["budget 1.6M of 3.0M tokens"]),
        ({"usd": None, "max_requests": 5e4}, ["budget 12,490 of 50,000 requests"]),
        (
            {"usd": None, "max_tokens": 3e6, "max_requests": 5e4},
            ["budget 1.6M of 3.0M tokens, 12,490 of 50,000 requests"],
        ),
    ],
    ids=str,
)
def test_the_progress_tells_dollars_where_all_prices_are_known_and_every_cap(
    change: dict[str, Any], groups: list[str]
) -> None:
    assert [", ".join(group) for group in money.so_far(msgspec.structs.replace(COST, **change))] == groups


def test_what_is_under_way_is_told_of_batches_only() -> None:
    reserved = msgspec.structs.replace(COST, reserved_usd=0.8)
    assert money.so_far(reserved) == money.so_far(COST)
    assert money.so_far(reserved, batch=True) == [["cost $1.23 of $5.00", "$0.80 under way", "about $3.10 in all"]]


@pytest.mark.parametrize(
    ("whole", "text"),
    [
        (cost(), "$0.00"),
        (cost(line("m", 1.23)), "$1.23"),
        (cost(line("m", 0.4, mode="batch")), "$0.40 by batch"),
        (cost(line("m", 0.4, mode="batch"), line("m", 1.0), line("n", 0.23)), "$1.63: $1.23 live, $0.40 batch"),
        (cost(line("m", 1.0, cached_tokens=300_000)), "$1.00; 300k of the tokens in were cached by the provider"),
        (cost(line("m", 1.0), line("n", None)), "$1.00 for the models with a known price"),
    ],
    ids=["nothing", "one", "batch", "both", "cached", "unknown"],
)
def test_the_sum_says_how_much_went_which_way(whole: Cost, text: str) -> None:
    assert money.summed_up(whole) == [text]


def test_no_dollars_are_told_where_no_price_is_known() -> None:
    assert money.summed_up(cost(line("m", None), unpriced=("m",))) == ['unknown for model "m" (add it to [prices])']


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"retries_usd": 0.02}, "retries $0.02"),
        ({"spared_usd": 0.5, "packed_usd": 0.1, "batch_usd": 0.4}, "saved: cache $0.50, packing $0.10, batch $0.40"),
        ({"retries_usd": 0.02, "spared_usd": 0.5, "packed_usd": 0.0}, "retries $0.02; saved: cache $0.50"),
        (
            {"lost_usd": 0.03, "lost": Spent(3, 10_000, 0, 500)},
            "at most $0.03 more may have been billed (3 requests without a reply)",
        ),
        (
            {"lost": Spent(1, 10_000, 0, 500)},
            "at most 10k tokens more may have been billed (1 request without a reply)",
        ),
        ({"unpriced": ("m", "n")}, 'unknown for models "m", "n" (add them to [prices])'),
        ({"unpriced": tuple("abcde")}, 'unknown for models "a", "b", "c" and 2 more (add them to [prices])'),
        (
            {"unpriced": ("no\x1b[2J\n" * 9,)},
            'unknown for model "no [2J no [2J no [2J no [2J n..." (add it to [prices])',
        ),
    ],
    ids=str,
)
def test_what_is_worth_telling_of_the_cost_has_a_line_of_its_own(change: dict[str, Any], text: str) -> None:
    assert money.summed_up(cost(line("m", 1.0), **change)) == ["$1.00", text]


def test_several_models_stand_in_a_table_without_columns_that_are_all_alike() -> None:
    assert money.table(cost(line("m", 1.0))) == []
    assert money.table(cost(line("m-small", 0.25), line("m", 1.0, cached_tokens=300_000))) == [
        "model    requests  tokens in (cached)   out   cost",
        "m           1,000         1.2M (300k)  400k  $1.00",
        "m-small     1,000                1.2M  400k  $0.25",
    ]
    assert money.table(cost(line("m", None, provider="spare"), line("m", 0.5, mode="batch"))) == [
        "provider  model  mode   requests  tokens in (cached)   out     cost",
        "main      m      batch     1,000                1.2M  400k    $0.50",
        "spare     m      live      1,000                1.2M  400k  unknown",
    ]


def test_the_dearest_models_have_a_line_and_the_rest_is_summed() -> None:
    lines = [line(f"m{place}", place / 10) for place in range(1, 10)]
    assert len(money.table(cost(*lines[:6]))) == 7
    table = money.table(cost(*lines))
    assert len(table) == 7
    assert table[1] == "m9         1,000                1.2M  400k  $0.90"
    assert table[-1] == "4 more     4,000                4.8M  1.6M  $1.00"
    assert money.table(cost(*lines, line("x", None)))[-1].endswith("unknown"), "a sum of a part is no sum"


def test_a_server_cannot_steer_the_terminal_by_the_name_of_a_model_nor_fill_it() -> None:
    table = money.table(cost(line("no\x1b[2J\r\n" * 90, 1.0, mode="batch"), line("m", 1.0, provider="p" * 90)))
    assert all(text.isprintable() for text in table)
    assert max(map(len, table)) < 120


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"usd": 4.985}, "$5.00: 99.7% used"),
        ({"usd": 4.99999}, "$5.00: 99.9% used"),
        ({"usd": 5.02, "max_tokens": 3e6}, "$5.00: 100.4% used; 3.0M tokens: 54.0% used"),
        ({"usd": None, "max_requests": 12_490.0}, "$5.00: how much is used is unknown; 12,490 requests: 100.0% used"),
        ({"max_usd": None}, ""),
    ],
    ids=str,
)
def test_the_summary_says_how_much_of_each_cap_is_used(change: dict[str, Any], text: str) -> None:
    assert money.budget(msgspec.structs.replace(COST, **change)) == text


@pytest.mark.parametrize(
    ("reason", "key"),
    [
        ("budget.max_usd is spent: $4.99 of $5.00", "budget.max_usd"),
        ("[budget] max_tokens = 3000000 does not cover the next row", "budget.max_tokens"),
        ("budget.max_usd and budget.max_requests", "budget.max_usd or budget.max_requests"),
        ("out of money", "the budget"),
        (None, "the budget"),
    ],
)
def test_the_key_to_be_raised_is_the_one_that_stopped_the_run(reason: str | None, key: str) -> None:
    assert money.cap(reason) == key
