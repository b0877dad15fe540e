"""Token estimates: they come to what is charged, and no single reply can spoil them."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.flow.limits.token_estimate import TokenEstimate


def test_before_the_first_reply_characters_count_as_they_are() -> None:
    assert TokenEstimate().estimate(100, 500) == 600


@pytest.mark.parametrize("ratio", [0.05, 0.7, 1.0, 1.6, 12.0])
def test_the_ratio_of_the_replies_is_found(ratio: float) -> None:
    estimate, rng = TokenEstimate(), Random(1)
    for _ in range(400):
        prompt = rng.randrange(20, 4000)
        estimate.learn(prompt, max(1, round(prompt * ratio)), 10)
    assert estimate.ratio == pytest.approx(ratio, rel=0.05)
    assert estimate.estimate(1000, 50) == pytest.approx(1000 * ratio + 50, rel=0.05)


def test_estimates_add_up_where_every_prompt_has_a_fixed_part() -> None:
    """A chat template costs the same for every prompt: the ratio of short ones is far above that of long ones."""
    estimate, rng = TokenEstimate(), Random(2)
    estimated = charged = 0
    for row in range(3000):
        prompt = round(rng.lognormvariate(5, 1))
        tokens, answer = 40 + prompt // 2, rng.randrange(20, 400)
        if row >= 200:
            estimated += estimate.estimate(prompt, 0)
            charged += tokens + answer
        estimate.learn(prompt, tokens, answer)
    assert estimated == pytest.approx(charged, rel=0.03)


def test_the_reply_counts_as_asked_for_or_else_as_usual() -> None:
    estimate = TokenEstimate()
    for _ in range(300):
        estimate.learn(100, 100, 37)
    assert estimate.estimate(100, 0) == pytest.approx(137, abs=3)
    assert estimate.estimate(100, 1000) == 1100


@pytest.mark.parametrize("known", [1, 5, 200])
@settings(deadline=None)
@given(prompt_tokens=st.integers(-5, 10**15), completion_tokens=st.integers(-5, 10**15))
def test_one_absurd_reply_hardly_matters(known: int, prompt_tokens: int, completion_tokens: int) -> None:
    estimate = TokenEstimate()
    for _ in range(known):
        estimate.learn(100, 120, 300)
    before = estimate.estimate(1000, 0)
    estimate.learn(100, prompt_tokens, completion_tokens)
    assert before * 0.8 <= estimate.estimate(1000, 0) <= before * 1.7


def test_what_is_really_different_gets_through() -> None:
    estimate = TokenEstimate()
    for _ in range(500):
        estimate.learn(100, 100, 100)
    for _ in range(500):
        estimate.learn(100, 2000, 3000)
    assert estimate.estimate(100, 0) == pytest.approx(5000, rel=0.05)


def test_replies_without_usage_change_nothing() -> None:
    estimate = TokenEstimate()
    estimate.learn(100, 250, 20)
    before = estimate.estimate(1000, 0)
    estimate.learn(100, 0, 0)
    estimate.learn(0, 100, 20)
    assert estimate.estimate(1000, 0) == before


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=30))
def test_estimates_are_always_at_least_one(replies: list[tuple[int, int, int]]) -> None:
    estimate = TokenEstimate()
    for reply in replies:
        estimate.learn(*reply)
        assert estimate.estimate(0, 0) >= 1
        assert estimate.estimate(10**6, 100) >= 100
