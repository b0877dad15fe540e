"""What replies end with, as servers of the field say it."""

import pytest

from rowmill.core.finish_reasons import CUT, FILTERED, common, near


@pytest.mark.parametrize(
    ("reasons", "word"),
    [
        (
            "length max_tokens MAX_TOKENS max_output_tokens model_length max_new_tokens MAX-TOKENS token_limit limit",
            CUT,
        ),
        ("FinishReason.MAX_TOKENS FINISH_REASON_MAX_TOKENS model_context_window_exceeded", CUT),
        (
            "content_filter content-filter SAFETY RECITATION FinishReason.SAFETY BLOCKLIST PROHIBITED_CONTENT refusal",
            FILTERED,
        ),
        ("stop STOP FinishReason.STOP finish_reason_stop", "stop"),
        ("stop_sequence", "stop_sequence"),
        ("end_turn END_TURN", "end_turn"),
        ("tool_calls", "tool_calls"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
    ],
)
def test_what_servers_call_otherwise_has_one_word(reasons: str, word: str) -> None:
    assert {common(reason) for reason in reasons.split()} == {word}


def test_a_word_with_its_own_reason_behind_it_is_that_word() -> None:
    assert common("content_filter: PROHIBITED_CONTENT") == FILTERED
    assert common(" Length ") == CUT
    assert common("") == ""


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("lenght", "length"),
        ("max_token", "length"),
        ("content_fitler", "content_filter"),
        ("contentfilters", "content_filter"),
        ("length", None),
        ("content_filter", None),
        ("stop", None),
        ("tool_calls", None),  # words of servers from here on
        ("function_call", None),
        ("malformed_function_call", None),
        ("insufficient_system_resource", None),
        ("model_context_window_exceeded", None),
        ("max_length", None),
        ("abort", None),
        ("repetition_truncation", None),
    ],
)
def test_a_misspelled_word_is_known_and_a_servers_own_is_left_alone(word: str, meant: str | None) -> None:
    assert near(word) == meant
