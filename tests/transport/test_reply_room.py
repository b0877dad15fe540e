"""How many tokens a reply may have, by what servers say that have refused more."""

import pytest

from rowmill.core.wire import Failure
from rowmill.transport import faults
from rowmill.transport.reply_room import may_be_for_want_of_room, room_in


def says(message: str, name: str = "invalid_request") -> Failure:
    return Failure(fault=faults.TABLE[name], message=message, status=400)


@pytest.mark.parametrize(
    ("message", "room"),
    [
        (
            "max_tokens is too large: 20480. This model supports at most 16384 completion tokens, and you gave 20480.",
            16384,
        ),
        ("max_tokens: 20480 > 16,384, which is the maximum allowed number of output tokens", 16384),
        ("Range of max_tokens should be [1, 16384]", 16384),
        ("`max_tokens` must be less than or equal to `16384`", 16384),
        ("max_tokens must be between 12000 and 16384", 0),  # which one?
        ("max_tokens is too large", 0),
        ("max_tokens must be at most 8000", 0),  # what it had
        ("too many: gpt-16384x", 0),
    ],
)
def test_the_most_that_a_server_gives_is_read_out_of_its_refusal(message: str, room: int) -> None:
    assert room_in(says(message), above=10240, below=20480, prompt=10) == room


def test_of_a_context_what_the_prompt_leaves_is_the_replys() -> None:
    failure = says(
        "This model's maximum context length is 16,384 tokens. However, you requested 20990 tokens (510 in the "
        "messages, 20480 in the completion).",
        "context_length",
    )
    assert room_in(failure, above=10240, below=20480, prompt=510) == 16384 - 510
    assert room_in(failure, above=10240, below=20480, prompt=0) == 0
    assert room_in(failure, above=16000, below=20480, prompt=510) == 0


def test_only_a_refusal_may_be_for_want_of_room() -> None:
    assert may_be_for_want_of_room(says("x", "context_length"))
    assert not may_be_for_want_of_room(says("x", "server_error"))
