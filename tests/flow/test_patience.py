"""How long a provider that answers nothing is waited for."""

from rowmill.flow.doubt import ROWS_UNPROVEN
from rowmill.flow.patience import Patience

MINUTE_S, HOUR_S = 60.0, 3600.0


def test_one_that_never_answered_gets_a_minute_and_one_that_did_an_hour() -> None:
    for answered, patience_s in ((False, MINUTE_S), (True, HOUR_S)):
        patience = Patience(30.0, 0.0)
        patience.answered = answered
        patience.trouble("HTTP 503", "")
        assert patience.opened(10.0) == patience.told == "HTTP 503"
        assert patience.hopeless(9.9 + patience_s, in_flight=0, others=False) is None
        why = patience.hopeless(10.0 + patience_s, in_flight=0, others=False)
        assert why == f"no valid reply for {patience_s:.0f} s: HTTP 503"
        patience.closed()
        assert patience.hopeless(HOUR_S * 9, in_flight=0, others=False) is None


def test_a_dead_end_gets_seconds_where_nobody_else_can_be_asked() -> None:
    patience = Patience(30.0, 0.0)
    patience.tripped("connection refused", "nothing", since=5.0)
    assert patience.at_dead_end
    assert patience.hopeless(7.9, in_flight=0, others=False) is None
    assert patience.hopeless(8.0, in_flight=0, others=False) == "connection refused"
    assert patience.hopeless(8.0, in_flight=0, others=True) is None
    assert repr(patience) == "<failing since 5.0, unanswered since None: connection refused>"


def test_requests_that_were_out_for_their_whole_time_have_failed_since_they_were_sent() -> None:
    for timeout_s, since in ((40.0, 0.0), (200.0, 40.0)):
        patience = Patience(timeout_s, 0.0)
        patience.trouble("timeout", "")
        patience.listen(20.0, requests=4, in_flight=4, unhealthy=False)
        patience.listen(40.0, requests=4, in_flight=0, unhealthy=True)
        assert patience.hopeless(since + MINUTE_S - 0.1, in_flight=0, others=False) is None
        assert patience.hopeless(since + MINUTE_S, in_flight=0, others=False)


def test_one_that_refuses_row_after_row_is_not_waited_for_once_every_worker_has_said_what_it_was_answered() -> None:
    patience = Patience(30.0, 0.0)
    patience.refusal = "HTTP 404"

    def refused(now: float, *, doubted: int = ROWS_UNPROVEN, answered: int = 0, in_flight: int = 0) -> str | None:
        return patience.refused_by_all(now, doubted=doubted, answered=answered, in_flight=in_flight)

    assert refused(1.0, doubted=ROWS_UNPROVEN - 1) is None
    assert refused(2.0) is None
    assert refused(2.4) is None
    assert refused(2.5, in_flight=1) is None
    assert refused(2.5) == "HTTP 404"
    assert refused(2.6, answered=1) is None
    assert refused(2.7) is None, "it counts from anew"


def test_one_that_answers_429_for_ever_and_was_never_heard_is_given_minutes_or_what_it_has_asked_for() -> None:
    """A run of one row would ask for most of an hour, and one of many without end."""
    for asked_s, patience_s in ((0.0, 5 * MINUTE_S), (1.0, 5 * MINUTE_S), (60.0, 10 * MINUTE_S), (HOUR_S, 10 * HOUR_S)):
        patience = Patience(30.0, 0.0)
        patience.limited("HTTP 429: busy", asked_s, 7.0)
        patience.limited("HTTP 429: still busy", 0.0, 100.0)
        assert patience.hopeless(6.9 + patience_s, in_flight=0, others=False) is None
        assert patience.hopeless(7.0 + patience_s, in_flight=1, others=False) is None, "it may have been let through"
        why = patience.hopeless(7.0 + patience_s, in_flight=0, others=True)
        assert why == f"every request refused for {patience_s:.0f} s, and none ever answered: HTTP 429: still busy"
        patience.answered = True
        assert patience.hopeless(HOUR_S * 99, in_flight=0, others=False) is None
