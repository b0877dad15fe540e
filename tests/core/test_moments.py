"""The moments of a run: joined ones have all that their parts had, and few are left of what is long ago."""

from itertools import pairwise

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rowmill.core.histograms import Distributions
from rowmill.core.moments import RESOLUTION, Moment, ProviderMoment, coarser, joined

DAY = 86_400


def second(at: float, rows: int = 1, session: str = "a") -> Moment:
    return Moment(at=at, seconds=1.0, session=session, rows=rows, spread=Distributions(prompt_tokens={7: rows}))


def test_what_is_counted_adds_up_and_what_is_measured_is_the_mean_over_the_time() -> None:
    first = Moment(
        at=10.0, seconds=1.0, session="a", rows=3, in_flight=8.0, rss_mb=50.0, faults={"timeout": 1}, usd=0.5
    )
    then = Moment(
        at=13.0, seconds=3.0, session="a", rows=9, in_flight=4.0, rss_mb=40.0, faults={"timeout": 2, "500": 1}
    )
    both = joined(first, then)
    assert (both.at, both.seconds, both.rows, both.in_flight, both.rss_mb, both.usd) == (13.0, 4.0, 12, 5.0, 50.0, 0.5)
    assert both.faults == {"timeout": 3, "500": 1}


def test_a_provider_was_in_the_worst_state_of_the_moment() -> None:
    first = Moment(at=1.0, seconds=1.0, session="a", providers={"x": ProviderMoment(requests=2, state="failing")})
    then = Moment(at=2.0, seconds=1.0, session="a", providers={"x": ProviderMoment(requests=3), "y": ProviderMoment()})
    both = joined(first, then).providers
    assert (both["x"].requests, both["x"].state, both["y"].state) == (5, "failing", "open")


@given(st.lists(st.sampled_from("ab"), max_size=300), st.integers(0, 20 * DAY))
def test_nothing_is_lost_and_sessions_are_told_apart(sessions: list[str], age: int) -> None:
    moments = [second(float(number), number, session) for number, session in enumerate(sessions)]
    kept = coarser(moments, len(sessions) + age)
    for session in "ab":
        mine = [each for each in kept if each.session == session]
        assert sum(each.rows for each in mine) == sum(each.rows for each in moments if each.session == session)
        assert sum(each.seconds for each in mine) == sessions.count(session)
    assert [each.at for each in kept] == sorted(each.at for each in kept)


def test_few_are_left_of_a_day_and_the_last_minutes_are_as_they_were() -> None:
    kept: list[Moment] = []
    for at in range(DAY):
        kept.append(second(float(at)))
        if not at % 2_000:
            kept = coarser(kept, at)
    kept = coarser(kept, DAY)
    assert len(kept) < 2_000
    assert sum(each.rows for each in kept) == DAY
    assert [each.seconds for each in kept[-100:]] == [1.0] * 100
    assert all(each.seconds <= max(1.0, 2 * (DAY - each.at) / RESOLUTION) for each in kept)
    assert all(one.at < other.at for one, other in pairwise(kept))


def test_as_json_it_is_what_it_was() -> None:
    moment = second(3.5)
    assert msgspec.json.decode(msgspec.json.encode(moment), type=Moment) == moment
    assert b"latency" not in msgspec.json.encode(moment)
