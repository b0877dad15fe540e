"""What is reserved for requests: safe before anything is known, right on average afterwards."""

from random import Random

import pytest

from rowmill.budget.cost_estimate import CostEstimate
from rowmill.core.amounts import Price, Spent

PRICE = Price(input=2.0, output=8.0, cached_input=0.5)


def test_before_anything_is_learned_the_most_that_a_request_may_take_is_reserved() -> None:
    assert CostEstimate().expect(100, 4096) == (100.0, 4096.0)
    prompt, completion = CostEstimate().expect(100, 0)
    assert prompt == 100.0
    assert completion >= 1000, "a guess, where the request does not say"


def test_a_few_replies_are_not_yet_trusted() -> None:
    estimate = CostEstimate()
    for _ in range(3):
        estimate.learn(100, 100, 5)
    assert estimate.expect(100, 4096)[1] == 4096.0


@pytest.mark.parametrize("most_output", [0, 4096])
def test_hundreds_in_flight_come_to_what_is_billed(most_output: int) -> None:
    """Prompts with a fixed part, replies of all lengths with a long tail: a thousand requests, within 2%."""
    rng = Random(4)

    def request() -> tuple[int, int, int]:
        prompt = round(rng.lognormvariate(5, 1))
        return prompt, 40 + prompt // 2, round(rng.lognormvariate(4, 0.8))

    estimate = CostEstimate()
    for _ in range(600):
        estimate.learn(*request())
    estimated = billed = 0.0
    for _ in range(10):
        flight = [request() for _ in range(500)]
        estimated += sum(sum(estimate.expect(prompt, most_output)) for prompt, _, _ in flight)
        billed += sum(prompt + completion for _, prompt, completion in flight)
        for each in flight:
            estimate.learn(*each)
    assert estimated == pytest.approx(billed, rel=0.02)


def test_the_long_tail_of_lengths_counts_whole() -> None:
    """One reply in twenty is a hundred times as long: no mistake, and most of the bill."""
    estimate = CostEstimate()
    for number in range(2000):
        estimate.learn(100, 100, 10_000 if number % 20 == 0 else 100)
    assert estimate.expect(100, 0)[1] == pytest.approx(595, rel=0.05)


def test_no_more_is_reserved_than_a_reply_may_have() -> None:
    estimate = CostEstimate()
    for _ in range(50):
        estimate.learn(100, 100, 500)
    assert estimate.expect(100, 200) == (100.0, 200.0)


def test_one_absurd_reply_hardly_matters_and_what_is_really_different_gets_through() -> None:
    estimate = CostEstimate()
    for _ in range(500):
        estimate.learn(100, 120, 300)
    before = sum(estimate.expect(1000, 0))
    estimate.learn(100, 10**15, 10**15)
    assert before <= sum(estimate.expect(1000, 0)) <= 1.1 * before
    for _ in range(3000):
        estimate.learn(100, 500, 9000)
    assert sum(estimate.expect(100, 0)) == pytest.approx(9500, rel=0.05)


def test_replies_without_usage_teach_nothing() -> None:
    estimate = CostEstimate()
    for _ in range(50):
        estimate.learn(100, 0, 0)
    assert estimate.expect(100, 700) == (100.0, 700.0)


def test_dollars_are_those_of_the_price() -> None:
    estimate = CostEstimate()
    assert estimate.usd(PRICE, 1000.0, 100.0) == pytest.approx(PRICE.usd(Spent(1, 1000, 0, 100)))
    assert estimate.usd(None, 1000.0, 100.0) == 0.0


def test_as_many_prompt_tokens_are_taken_for_cached_as_usual() -> None:
    estimate = CostEstimate()
    for number in range(400):
        estimate.learn(100, 1000, 100, 800 if number % 2 else 0)
    assert estimate.usd(PRICE, 1000.0, 100.0) == pytest.approx(PRICE.usd(Spent(1, 1000, 400, 100)), rel=0.01)
