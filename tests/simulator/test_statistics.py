"""The witness counts right: repeats, repeats after a success, what is in flight, and a bounded history."""

from hypothesis import given
from hypothesis import strategies as st

from rowmill.simulator.statistics import SERIES_S, Statistics

steps = st.lists(st.tuples(st.integers(min_value=0, max_value=5), st.booleans()), max_size=60)


@given(steps)
def test_repeats_are_counted_as_a_plain_recount_does(exchanges: list[tuple[int, bool]]) -> None:
    statistics = Statistics()
    answered: list[int] = []
    repeated = 0
    for key, success in exchanges:
        repeated += key in answered
        statistics.arrived(key, 10, 0)
        statistics.left(key, 200 if success else 500, 0, success=success)
        if success:
            answered.append(key)
    figures = statistics.figures(0)
    keys = [key for key, _ in exchanges]
    assert figures["repeated_after_success"] == repeated
    assert figures["answered_twice"] == sum(answered.count(key) > 1 for key in set(answered))
    assert figures["repeated_after_damage"] == 0
    assert figures["distinct"] == len(set(keys))
    assert figures["duplicates"] == len(keys) - len(set(keys))
    assert figures["max_per_request"] == max((keys.count(key) for key in keys), default=0)
    assert sum(figures["by_status"].values()) == figures["requests"] == len(keys)
    assert figures["bytes_in"] == 10 * len(keys)


def test_two_answers_to_one_body_are_seen_also_where_they_overlap() -> None:
    statistics = Statistics()
    for key in (1, 1, 2):
        statistics.arrived(key, 5, 0)
    for key in (1, 1, 2):
        statistics.left(key, 200, 0, success=True)
    figures = statistics.figures(0)
    assert (figures["answered_twice"], figures["repeated_after_success"]) == (1, 0)


def test_a_repeat_after_a_damaged_reply_is_told_from_one_after_a_good_one() -> None:
    statistics = Statistics()
    for success, damaged in ((False, True), (True, False), (True, False)):
        statistics.arrived(1, 5, 0)
        statistics.left(1, 200, 0, success=success, damaged=damaged)
    figures = statistics.figures(0)
    assert (figures["repeated_after_damage"], figures["repeated_after_success"]) == (1, 1)
    assert figures["answered_twice"] == 1


def test_requests_and_inputs_are_counted_by_route() -> None:
    statistics = Statistics()
    for key, route in enumerate(("/embeddings", "/embeddings", "/responses")):
        statistics.arrived(key, 5, 0, route)
    statistics.billed(40, 0, 64, "/embeddings")
    statistics.billed(10, 5, 1, "/responses")
    figures = statistics.figures(0)
    assert figures["by_route"] == {"/embeddings": 2, "/responses": 1}
    assert figures["inputs"] == {"/embeddings": 64, "/responses": 1}
    assert (figures["prompt_tokens"], figures["completion_tokens"]) == (50, 5)


def test_a_repeat_before_the_answer_is_no_repeat_after_success() -> None:
    statistics = Statistics()
    statistics.arrived(1, 5, 0)
    statistics.arrived(1, 5, 0)
    statistics.left(1, 200, 0, success=True)
    assert statistics.figures(0)["repeated_after_success"] == 0
    statistics.arrived(1, 5, 0)
    assert statistics.figures(0)["repeated_after_success"] == 1


def test_lines_of_batches_and_live_requests_are_known_by_the_same_key() -> None:
    statistics = Statistics()
    statistics.line(1, success=True)
    statistics.line(2, success=False)
    statistics.line(3, success=False, damaged=True)
    for key in (1, 2, 3):
        statistics.arrived(key, 5, 0)
        statistics.left(key, 200, 0, success=True)
    figures = statistics.figures(0)
    assert (figures["repeated_after_success"], figures["repeated_after_damage"], figures["answered_twice"]) == (1, 1, 1)
    assert (figures["requests"], figures["distinct"], figures["duplicates"], figures["max_per_request"]) == (3, 3, 3, 2)
    for key in (1, 4):
        statistics.line(key, success=True)
    assert statistics.figures(0)["repeated_after_success"] == 2
    statistics.clear()
    assert statistics.figures(0)["duplicates"] == 0


def test_a_second_batch_for_the_same_try_and_a_second_upload_of_the_same_bytes_are_told() -> None:
    batches = Statistics().batches
    one = {"rowmill_run": "a", "rowmill_part": "0", "rowmill_try": "1"}
    for metadata in (one, {**one, "rowmill_try": "2"}, {**one, "rowmill_run": "b"}, one, {}, None, None):
        batches.made(metadata)
    for name, digest in (("a", "1"), ("a", "2"), ("b", "1"), ("a", "1")):
        batches.uploaded(name, digest)
    figures = batches.shown()
    assert (figures["created"], figures["same_try"], figures["files"], figures["files_twice"]) == (7, 1, 4, 1)


def test_a_reset_keeps_what_is_in_flight_and_nothing_else() -> None:
    statistics = Statistics()
    statistics.arrived(1, 5, 0)
    statistics.arrived(2, 5, 0)
    statistics.left(1, 200, 0, success=True)
    statistics.clear()
    figures = statistics.figures(0)
    assert (figures["in_flight"], figures["in_flight_max"], figures["requests"]) == (1, 1, 0)
    statistics.left(2, None, 0, success=False)
    assert statistics.figures(0)["in_flight"] == 0


def test_the_history_is_bounded_and_recent() -> None:
    statistics = Statistics()
    for second in range(2 * SERIES_S):
        statistics.arrived(second, 1, second)
    assert len(statistics.figures(2 * SERIES_S - 1)["per_second"]) == SERIES_S
    assert statistics.figures(2 * SERIES_S + 9)["per_second"][0] == [SERIES_S + 10, 1]


def test_the_series_tells_what_came_and_what_became_of_it_in_each_second() -> None:
    statistics = Statistics()
    statistics.arrived(1, 1, 10.0)
    statistics.arrived(2, 1, 10.9)
    statistics.charged(30, 10.9)
    statistics.left(1, 429, 10.95, success=False)
    statistics.arrived(3, 1, 11.5)
    statistics.charged(12, 11.5)
    statistics.left(2, 200, 12.1, success=True)
    statistics.left(3, None, 13.0, success=False)
    figures = statistics.figures(13)
    assert figures["series"] == [[10, 2, 0, 1, 0, 30], [11, 1, 0, 0, 0, 12], [12, 0, 1, 0, 0, 0], [13, 0, 0, 0, 1, 0]]
    assert figures["per_second"] == [[10, 2], [11, 1]]
    assert (figures["first"], figures["last"]) == (10.0, 11.5)
    assert (figures["admitted"], figures["charged_tokens"]) == (2, 42)


def test_a_reply_that_broke_off_is_no_answer_in_the_series() -> None:
    statistics = Statistics()
    statistics.arrived(1, 1, 5.0)
    statistics.left(1, 200, 5.0, success=False)
    assert statistics.figures(5)["series"] == [[5, 1, 0, 0, 1, 0]]
