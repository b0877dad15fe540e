"""The credit of a worker in use: what a request is reserved at, what its end makes of that, and what goes back."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rowmill.budget.credit import Credit
from rowmill.core.amounts import Amount, Price
from rowmill.core.wire import Answer, Failure, Request
from rowmill.transport import faults
from rowmill.worker.job import Job
from rowmill.worker.live.provider import Provider
from rowmill.worker.live.reservations import Reservations

PRICE = Price(input=2.0, output=8.0, cached_input=0.5)
DEAR = Price(input=20.0, output=80.0, cached_input=20.0)
MOST = 100  # tokens that a reply may have
PROMPT = 40  # tokens of a request by its characters


class Silent:
    """A wire that nothing is sent on."""

    async def send(self, body: bytes) -> Failure:
        raise AssertionError(body)

    async def close(self) -> None:
        pass


def provider(number: int = 0) -> Provider:
    return Provider(number, "main", Silent(), most_output=MOST)


def job(tokens: int = PROMPT) -> Job:
    made = Job(0, b"{}", 2, None)  # type: ignore[arg-type]  # nobody here looks at the shard
    made.request = Request(b"{}", b"1", tokens)
    return made


def answer(prompt: int, completion: int, cached: int = 0) -> Answer:
    return Answer(b'"a"', b'"stop"', b'"m"', b"{}", prompt, completion, cached)


class Counter:
    """Reservations, and what it has told the supervisor."""

    def __init__(self, *prices: Price | None) -> None:
        self.told: list[tuple[Amount, Amount]] = []
        self.credit = Credit()
        self.reservations = Reservations(
            self.credit, prices or (PRICE,), lambda left, need: self.told.append((left, need))
        )

    def taught(self, prompt: int, completion: int, cached: int = 0, *, times: int = 8) -> None:
        """Let so many replies say what requests of the usual size take."""
        self.reservations.allow(Amount(float(times), inf, inf))
        main = provider()
        for _ in range(times):
            one = job()
            assert self.reservations.reserve(one, main)
            self.reservations.answered(one, main, answer(prompt, completion, cached))


def test_a_request_is_reserved_at_the_most_that_it_may_cost_until_replies_say_more() -> None:
    at = Counter()
    at.reservations.allow(Amount(10.0, 1000.0, 1.0))
    first = job()
    assert at.reservations.reserve(first, provider())
    assert first.reserved == pytest.approx((PROMPT + MOST, (PROMPT * 2.0 + MOST * 8.0) / 1e6))
    assert at.credit.spent == at.credit.reserved == Amount(1.0, *first.reserved)


def test_and_then_at_what_replies_took() -> None:
    at = Counter()
    at.taught(50, 10, cached=25)
    at.reservations.allow(Amount(1.0, inf, inf))
    spent, usual = at.credit.spent, job()
    assert at.reservations.reserve(usual, provider())
    assert usual.reserved == pytest.approx((60.0, (25 * 2.0 + 25 * 0.5 + 10 * 8.0) / 1e6))
    assert at.credit.spent.tokens - spent.tokens == pytest.approx(60.0)


def test_a_reply_takes_the_place_of_what_was_reserved_with_its_cached_tokens_at_their_price() -> None:
    at = Counter()
    at.reservations.allow(Amount(10.0, 1000.0, 1.0))
    one = job()
    at.reservations.reserve(one, provider())
    at.reservations.answered(one, provider(), answer(50, 7, cached=40))
    assert at.credit.reserved == Amount()
    assert at.credit.spent.tokens == 57
    assert at.credit.spent.usd == pytest.approx((10 * 2.0 + 40 * 0.5 + 7 * 8.0) / 1e6)


def test_a_reply_that_tells_no_usage_has_taken_what_was_reserved() -> None:
    at = Counter()
    at.reservations.allow(Amount(10.0, 1000.0, 1.0))
    one = job()
    at.reservations.reserve(one, provider())
    at.reservations.answered(one, provider(), answer(0, 0))
    assert at.credit.spent == Amount(1.0, *one.reserved)
    assert at.credit.reserved == Amount()


@pytest.mark.parametrize(
    ("failure", "billed"),
    [
        (Failure(fault=faults.RATE_LIMITED, message="m", status=429), False),
        (Failure(fault=faults.TABLE["server_error"], message="m", status=500, maybe_billed=True), True),
        (Failure(fault=faults.TIMEOUT, message="m", maybe_billed=True), True),
        (Failure(fault=faults.CONTENT_FILTER, message="m", code="content_filter", status=400), False),
        (Failure(fault=faults.CONTENT_FILTER, message="I cannot", code="refusal", status=200), True),
    ],
    ids=["429", "500", "timeout", "filtered", "refusal"],
)
def test_a_failure_gives_back_what_was_reserved_unless_it_may_be_billed(failure: Failure, billed: bool) -> None:
    at = Counter()
    at.reservations.allow(Amount(10.0, 1000.0, 1.0))
    one = job()
    at.reservations.reserve(one, provider())
    at.reservations.failed(one, failure)
    assert at.credit.reserved == Amount()
    assert at.credit.spent == (Amount(1.0, *one.reserved) if billed else Amount(1.0))
    at.reservations.recalled()
    ((left, _),) = at.told
    assert left.tokens == pytest.approx(1000 - (one.reserved[0] if billed else 0))


def test_what_is_not_covered_is_not_reserved_and_all_that_is_left_goes_back_once() -> None:
    at = Counter()
    at.reservations.allow(Amount(5.0, PROMPT + MOST + 10, inf))
    assert at.reservations.reserve(job(), provider())
    late = job()
    assert not at.reservations.reserve(late, provider())
    assert at.reservations.short
    assert late.reserved == (0.0, 0.0)
    ((left, need),) = at.told
    assert left == Amount(4.0, 10.0, 0.0)
    assert (need.requests, need.tokens) == (1.0, PROMPT + MOST)
    assert need.usd == pytest.approx((PROMPT * 2.0 + MOST * 8.0) / 1e6)
    assert at.credit.spent.requests == 1
    at.reservations.allow(need)
    assert not at.reservations.short
    assert at.reservations.reserve(late, provider())
    assert len(at.told) == 1


@pytest.mark.parametrize(
    "allowed", [Amount(0.0, inf, inf), Amount(inf, PROMPT + MOST - 1, inf), Amount(inf, inf, 1e-7)]
)
def test_each_of_the_three_is_enough_to_hold_a_request_back(allowed: Amount) -> None:
    at = Counter()
    at.reservations.allow(allowed)
    assert not at.reservations.reserve(job(), provider())
    ((left, _),) = at.told
    assert left == Amount(*(value if value < inf else 0.0 for value in (allowed.requests, allowed.tokens, allowed.usd)))


def test_a_reply_above_its_estimate_leaves_a_debt_that_is_asked_for_with_the_next_request() -> None:
    at = Counter()
    at.reservations.allow(Amount(2.0, PROMPT + MOST, inf))
    one = job()
    at.reservations.reserve(one, provider())
    at.reservations.answered(one, provider(), answer(PROMPT, MOST + 60))
    assert not at.reservations.reserve(job(), provider())
    ((left, need),) = at.told
    assert left == Amount(1.0, 0.0, 0.0)
    assert need.tokens == pytest.approx(PROMPT + MOST + 60)


def test_a_recall_brings_what_is_not_spent_and_asks_for_nothing() -> None:
    at = Counter()
    at.reservations.allow(Amount(10.0, 1000.0, 1.0))
    one = job()
    at.reservations.reserve(one, provider())
    at.reservations.recalled()
    ((left, need),) = at.told
    assert (left.requests, left.tokens) == (9.0, 1000 - one.reserved[0])
    assert left.usd == pytest.approx(1 - one.reserved[1])
    assert need == Amount()
    assert not at.reservations.short, "it was not asked for: the next request says whether more is needed"
    assert not at.reservations.reserve(job(), provider())


def test_every_provider_has_its_own_price_and_its_own_estimate() -> None:
    at = Counter(PRICE, DEAR, None)
    at.taught(40, 10)
    at.reservations.allow(Amount(inf, inf, inf))
    usual, dear, free = job(), job(), job()
    for one, number in ((usual, 0), (dear, 1), (free, 2)):
        assert at.reservations.reserve(one, provider(number))
    assert usual.reserved == pytest.approx((50.0, (40 * 2.0 + 10 * 8.0) / 1e6))
    assert dear.reserved == pytest.approx((PROMPT + MOST, (PROMPT * 20.0 + MOST * 80.0) / 1e6))
    assert free.reserved == (PROMPT + MOST, 0.0)
    before = at.credit.spent.usd
    at.reservations.answered(dear, provider(1), answer(10, 10, cached=10))
    assert at.credit.spent.usd - before == pytest.approx((10 * 20.0 + 10 * 80.0) / 1e6 - dear.reserved[1])


_END = st.sampled_from(["answered", "untold", "failed", "billed"])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("allow"), st.integers(0, 4), st.integers(0, 600)),
            st.tuples(st.just("send"), st.integers(1, 200), st.integers(0, 300)),
            st.tuples(st.just("end"), _END, st.integers(0, 400)),
            st.tuples(st.just("recall"), st.none(), st.none()),
        ),
        max_size=40,
    )
)
@settings(deadline=None, max_examples=80)
def test_whatever_comes_what_was_allowed_is_what_was_spent_and_went_back_and_is_there(
    steps: list[tuple[str, int | str | None, int | None]],
) -> None:
    """Nothing goes out that is not covered, and beyond it only replies above their estimates can take anything."""
    at = Counter()
    allowed = Amount()
    beyond = 0.0  # tokens that replies took above their estimates
    open_jobs: list[Job] = []
    for what, one, two in steps:
        if what == "allow":
            more = Amount(float(one or 0), float(two or 0), inf)
            at.reservations.allow(more)
            allowed += Amount(more.requests, more.tokens)
        elif what == "send":
            sent, told = job(int(one or 0)), len(at.told)
            if at.reservations.reserve(sent, provider()):
                open_jobs.append(sent)
            else:
                assert len(at.told) == told + 1
        elif what == "recall":
            at.reservations.recalled()
        elif open_jobs:
            ended = open_jobs.pop()
            if one in ("answered", "untold"):
                usage = int(two or 0) if one == "answered" else 0
                beyond += max(0.0, usage - ended.reserved[0])
                at.reservations.answered(ended, provider(), answer(usage, 0))
            else:
                at.reservations.failed(ended, Failure(fault=faults.TIMEOUT, message="m", maybe_billed=one == "billed"))
    spent, back = at.credit.spent, sum((left for left, _ in at.told), Amount())
    there = at.credit.give_back()
    debt = at.credit.need(0.0, 0.0).tokens
    assert spent.requests + back.requests + there.requests == pytest.approx(allowed.requests)
    assert spent.tokens + back.tokens + there.tokens - debt == pytest.approx(allowed.tokens, abs=1e-6)
    assert spent.tokens + back.tokens <= allowed.tokens + beyond + 1e-6
    assert at.credit.reserved.requests == len(open_jobs)
