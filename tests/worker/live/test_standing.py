"""How a provider stands: an answer is told as long as something is open that it may settle, and no longer."""

from collections.abc import Callable
from math import inf

import pytest

from rowmill.core.counts import ProviderReport
from rowmill.core.leases import Lease
from rowmill.core.wire import Failure, Reply, Request
from rowmill.transport import faults
from rowmill.worker.live.standing import Standing

ASKED = Request(b"{}", b"3", 1)


def failing(status: int) -> Failure:
    failure = faults.classify(Reply(status, b"", lambda _: None))
    assert failure is not None
    return failure


def quiet() -> Standing:
    """Return how a provider stands that has answered, and of which nothing is open."""
    standing = Standing()
    assert standing.asks, "the first answer is news"
    assert not standing.answered(1.0, 0)
    assert not standing.asks
    assert standing.proven
    return standing


OPENERS: dict[str, Callable[[Standing], object]] = {
    "a lease": lambda standing: standing.leased(Lease(0, 1, inf, 4)),
    "a lease that says that nothing is let through": lambda standing: standing.leased(Lease(0, 1, inf, 4, silent=True)),
    "an unhealthy result": lambda standing: standing.failed(failing(500), 2.0, counts=True),
    "a 429": lambda standing: standing.limited(failing(429), 2.0),
    "a 429 with a wait": lambda standing: standing.wait_s(1.0, 2.0, 1, 2.5, sent=1),
    "a refusal that may be the row's": lambda standing: standing.doubted(
        3, ASKED, failing(401), 2.0, whole=True, single=True
    ),
    "a row that has failed for good": lambda standing: standing.same_error("error"),
}


@pytest.mark.parametrize("opener", OPENERS)
def test_what_opens_something_asks_for_the_next_answer_which_settles_it(opener: str) -> None:
    standing = quiet()
    OPENERS[opener](standing)
    assert standing.asks
    standing.answered(3.0, 0)
    assert not standing.asks


def test_an_answer_from_before_the_failures_leaves_them_open() -> None:
    standing = quiet()
    standing.failed(failing(500), 2.0, counts=True)
    standing.doubted(3, ASKED, failing(401), 2.0, whole=True, single=True)
    assert not standing.answered(1.5, 0)
    assert standing.asks
    assert standing.answered(2.5, 0), "it clears the provider"
    assert not standing.asks
    assert repr(standing).startswith("<proven, streak 0, doubt ")


def test_few_are_allowed_until_the_first_answer() -> None:
    standing = Standing()
    standing.feel(2, lambda: None)
    assert standing.most(8) == 2
    assert standing.felt() is not None
    assert standing.felt() is None
    assert standing.most(8) == 8


def test_a_429_is_told_in_words_with_its_longest_wait_as_long_as_nothing_was_ever_answered() -> None:
    def told(standing: Standing) -> tuple[str, float]:
        report = ProviderReport()
        standing.tell(report)
        return report.limit, report.asked_s

    standing = Standing()
    assert told(standing) == ("", 0.0)
    for wait in ("2", "0.1"):
        failure = faults.classify(Reply(429, b"busy", {"retry-after": wait}.get))
        assert failure is not None
        standing.limited(failure, 2.0)
    said, asked_s = told(standing)
    assert "429" in said
    assert "busy" in said
    assert asked_s == 2.0
    standing.leased(Lease(0, 1, inf, 4, known=True))
    assert told(standing) == ("", 0.0), "an earlier session was answered"
    standing = quiet()
    standing.limited(failing(429), 2.0)
    assert told(standing) == ("", 0.0)
