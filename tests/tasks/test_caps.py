"""The most tokens that a reply may have, as a request says it."""

import json

import pytest

from rowmill.tasks.caps import cap_in, with_cap


@pytest.mark.parametrize(
    ("members", "cap"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_completion_tokens": 7, "max_tokens": None}, 7),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({}, 0),
        ({"max_tokens": "5"}, 0),
        ({"max_tokens": -1}, 0),
        ({"max_tokens": 1.5}, 0),
        ({"max_tokens": 10**30}, 0),
    ],
)
def test_the_cap_of_a_request_is_found_and_raised_by_whatever_name(members: dict[str, object], cap: int) -> None:
    body = json.dumps({"model": "m", **members, "messages": [{"content": '"max_tokens": 3'}]}).encode()
    assert cap_in(body) == cap
    raised = {name: 20 if type(value) is int and 0 < value < 10**18 else value for name, value in members.items()}
    assert json.loads(with_cap(body, 20)) == {**json.loads(body), **raised}


def test_what_is_no_request_has_none() -> None:
    assert cap_in(b"[]") == cap_in(b"{") == 0
