"""What spending comes to: the right price for every line, and no figure where a price is missing."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from rowmill.budget import prices as money
from rowmill.budget.cost import CostCalculator
from rowmill.budget.ledger import Spending, SpendingLine
from rowmill.core import config as configuration
from rowmill.core.amounts import Amount, Spent
from rowmill.core.config import Config
from rowmill.core.counts import Totals
from rowmill.ipc.messages import BatchHeartbeat

A_MILLION = Spent(10, 1_000_000, 200_000, 500_000)  # $0.80 + $0.10 + $2.00 at the price below
PRICE = {"input": 1.0, "cached_input": 0.5, "output": 4.0, "batch_discount": 0.25}


def config(prices: Mapping[str, Mapping[str, float]], *, providers: int = 1, **sections: Any) -> Config:
    names = ("main", "spare")[:providers]
    tree: dict[str, Any] = {
        "input": {"path": "in.jsonl"},
        "task": {"model": "m", "prompt": "p"},
        "output": {"path": "out.jsonl"},
        "provider": [{"name": name, "base_url": "http://127.0.0.1:1/v1"} for name in names],
        "prices": prices,
    }
    for name, keys in sections.items():
        tree[name] = {**tree.get(name, {}), **keys}
    return configuration.parse(tree, "test")


def bill(prices: Mapping[str, Mapping[str, float]], **more: Any) -> CostCalculator:
    made = config(prices, **more)
    return CostCalculator(made, money.find(made))


def line(provider: str = "main", model: str = "m", **more: Spent) -> SpendingLine:
    return msgspec.structs.replace(SpendingLine(provider=provider, model=model, mode="live"), **more)


def batches(**more: Any) -> BatchHeartbeat:
    figures = {"batches": [], "parts": 1, "collected": 1, "spent": Spent(), "wasted": Spent(), "reserved": Amount()}
    return BatchHeartbeat(**{**figures, **more})


def test_every_provider_has_its_own_price_of_the_same_model() -> None:
    of = bill({"m": PRICE, "spare/m": {"input": 0.0, "output": 1.0}}, providers=2)
    lines = [line(spent=A_MILLION), line("spare", spent=A_MILLION)]
    cost = of.cost(Spending(lines=lines), None, Totals(), None)
    assert [each.usd for each in cost.lines] == pytest.approx([2.9, 0.5])
    assert (cost.tokens, cost.requests, cost.unpriced) == (3_000_000, 20, ())
    assert cost.usd == pytest.approx(3.4)


def test_without_a_price_of_everything_there_is_no_sum_and_it_says_of_what() -> None:
    of = bill({"m": PRICE}, task={"per_row": {"model": "which"}})
    of.find([line(spent=A_MILLION), line(model="other", spent=A_MILLION)])
    spending = Spending(lines=[line(spent=A_MILLION), line(model="other", spent=A_MILLION)])
    cost = of.cost(spending, None, Totals(rows=1), 10)
    assert [each.usd for each in cost.lines] == [pytest.approx(2.9), None]
    assert cost.unpriced == ("other",)
    assert {cost.usd, cost.projected_usd, cost.retries_usd, cost.lost_usd} == {None}


def test_requests_that_brought_no_reply_to_name_a_model_cost_nothing() -> None:
    of = bill({"m": PRICE}, task={"per_row": {"model": "which"}})
    nothing = line(model="", spent=Spent(5))
    cost = of.cost(Spending(lines=[nothing]), None, Totals(), None)
    assert (cost.usd, cost.unpriced, cost.requests) == (0.0, (), 5)


def test_nothing_spent_has_cost_nothing() -> None:
    cost = bill({}).cost(Spending(), None, Totals(), 10)
    assert (cost.usd, cost.tokens, cost.lines, cost.projected_usd) == (0.0, 0, (), None)


def test_the_projection_takes_the_rows_to_come_for_such_as_are_done() -> None:
    cost = bill({"m": PRICE}).cost(Spending(lines=[line(spent=A_MILLION)]), None, Totals(rows=50), 200)
    assert cost.projected_usd == pytest.approx(4 * 2.9)


def test_batches_have_their_discount_and_say_what_they_saved() -> None:
    of = bill({"m": PRICE})
    told = batches(spent=A_MILLION, wasted=A_MILLION, reserved=Amount(1.0, 2.0, 0.5))
    cost = of.cost(Spending(lines=[line(spent=A_MILLION)]), told, Totals(), None)
    assert [each.mode for each in cost.lines] == ["live", "batch"]
    assert [each.usd for each in cost.lines] == pytest.approx([2.9, 2.175])
    assert cost.usd == pytest.approx(5.075)
    assert cost.batch_usd == pytest.approx(0.725)
    assert cost.retries_usd == pytest.approx(2.175)
    assert cost.reserved_usd == 0.5
    counted = of.batch_amount(told)
    assert (counted.requests, counted.tokens) == (11, 1_500_002)
    assert counted.usd == pytest.approx(2.675)


def test_what_may_be_lost_counts_in_the_budget_and_stands_beside_the_cost() -> None:
    of = bill({"m": PRICE})
    doubtful = line(spent=A_MILLION, wasted=Spent(1, 100_000), lost=Spent(2, 200_000))
    cost = of.cost(Spending(lines=[doubtful]), None, Totals(), None)
    assert cost.usd == pytest.approx(2.9)
    assert cost.lost_usd == pytest.approx(0.2)
    assert cost.lost == Spent(2, 200_000)
    assert cost.retries_usd == pytest.approx(0.1)
    counted = of.amount(doubtful)
    assert (counted.requests, counted.tokens) == (10, 1_700_000), "they are among the requests that were sent"
    assert counted.usd == pytest.approx(3.1)


@pytest.mark.parametrize(
    ("lost", "requests", "tokens", "usd"),
    [
        (Amount(0.0, 0.0, 0.29), 0, 0, 0.29),
        (Amount(0.0, 150_000.0, 0.0), 0, 150_000, 0.29),  # a tenth of all tokens
        (Amount(1.0, 0.0, 0.0), 1, 150_000, 0.29),  # a tenth of all requests
    ],
)
def test_credit_that_went_with_a_worker_is_told_in_dollars_whatever_is_limited(
    lost: Amount, requests: int, tokens: int, usd: float
) -> None:
    cost = bill({"m": PRICE}).cost(Spending(lines=[line(spent=A_MILLION)], lost=lost), None, Totals(), None)
    assert cost.lost == Spent(requests, tokens)
    assert cost.lost_usd == pytest.approx(usd)


def test_a_provider_by_another_name_has_cost_what_it_has_cost() -> None:
    """A cap over several sessions must not forget what was spent when a provider is renamed."""
    of = bill({"m": PRICE})
    assert of.amount(line("as-it-was-called", spent=A_MILLION)).usd == pytest.approx(2.9)
    assert bill({}).amount(line("as-it-was-called", spent=A_MILLION)).usd == 0.0


def test_a_model_that_a_reply_names_has_the_price_of_that_name_also_where_it_is_the_tasks() -> None:
    of = bill({"m": PRICE}, task={"per_row": {"model": "which"}})
    assert of.amount(line(spent=A_MILLION)).usd == 0.0
    of.find([line(spent=A_MILLION)])
    assert of.amount(line(spent=A_MILLION)).usd == pytest.approx(2.9)
    cost = of.cost(Spending(lines=[line(spent=A_MILLION)]), None, Totals(), None)
    assert cost.usd == pytest.approx(2.9)


def test_savings_are_in_the_first_price_that_there_is() -> None:
    of = bill({"spare/m": PRICE}, providers=2)
    spending = Spending(spared=A_MILLION, packed_tokens=1_000_000)
    cost = of.cost(spending, None, Totals(), None)
    assert cost.spared_usd == pytest.approx(2.9)
    assert cost.packed_usd == pytest.approx(1.0)
    unpriced = bill({}).cost(spending, None, Totals(), None)
    assert (unpriced.spared_usd, unpriced.packed_usd) == (None, None)
