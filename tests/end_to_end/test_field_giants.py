"""Replies that are too much: as long as memory, or as deep as no parser goes. Each is its own row's affair."""

import gzip
import json
from collections.abc import Callable

import pytest

from rowmill.core.errors import ExitCode
from tests.end_to_end.conftest import Arrival, Place, Server

_Reply = tuple[int, dict[str, str], bytes]
_DEPTHS = (100, 1_000, 100_000)
_GOOD = 20
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
_MUCH = b" " * (70 << 20)
_BOMB = gzip.compress(_MUCH, 9)


def arrays(depth: int) -> str:
    return "[" * depth + "]" * depth


def objects(depth: int) -> str:
    return '{"error":' * depth + "1" + "}" * depth


def chat(message: str, more: str = "") -> bytes:
    choice = f'{{"index":0,"message":{message},"finish_reason":"stop"}}'
    return f'{{"id":"x","model":"m","choices":[{choice}],"usage":{json.dumps(_USAGE)}{more}}}'.encode()


def said(content: str) -> str:
    return json.dumps({"role": "assistant", "content": content})


def calls(arguments: str) -> str:
    call = f'{{"id":"c","type":"function","function":{{"name":"f","arguments":{arguments}}}}}'
    return f'{{"role":"assistant","content":null,"tool_calls":[{call}]}}'


def deep_replies(depth: int) -> list[tuple[int, bytes]]:
    """Return replies with something this deep in every place that somebody reads."""
    deep, within = arrays(depth), objects(depth)
    return [
        (200, deep.encode()),
        (200, within.encode()),
        (200, chat(said("hi"), f',"more":{deep}')),
        (200, chat(said(f'{{"a":{deep}}}'))),
        (200, chat(f'{{"role":"assistant","content":{deep}}}')),
        (200, chat(f'{{"role":"assistant","content":[{{"type":"text","text":{deep}}}]}}')),
        (200, chat(f'{{"role":"assistant","content":null,"reasoning":{deep}}}')),
        (200, chat(calls(json.dumps(deep)))),
        (200, chat(calls(deep))),
        (200, chat(said("hi"), f',"error":{within}')),
        (200, f'{{"choices":[{{"index":0,"error":{within},"finish_reason":"error"}}]}}'.encode()),
        (200, b'{"choices":[' * depth),
        (400, f'{{"error":{{"message":"no","param":{within}}}}}'.encode()),
        (400, json.dumps({"error": {"message": within}}).encode()),
        (400, f'{{"detail":{deep}}}'.encode()),
        (422, within.encode()),
        (422, ("<div>" * depth).encode()),
        (500, f'{{"error":{{"metadata":{{"raw":{json.dumps(within)}}}}}}}'.encode()),
    ]


# Of those above, what is neither an answer nor a refusal. Where something is 100 deep it is read as any other.
_TOO_DEEP = {100: [], 1_000: [1, 2, 4, 5, 6, 8, 9, 10, 11], 100_000: [1, 2, 4, 5, 6, 8, 9, 10, 11]}
_GIANTS: list[_Reply] = [
    (200, {}, _MUCH),
    (200, {"content-encoding": "gzip"}, _BOMB),
    (500, {}, _MUCH),
    (400, {"content-encoding": "gzip"}, _BOMB),
    (200, {}, chat(said("y" * (3 << 20)))),
]


@pytest.mark.parametrize(
    "options",
    [
        ["--set", 'output.include=["message","tool_calls","reasoning","meta"]'],
        ["--set", 'client.transport="sdk"', "--set", 'task.schema={type="object"}', "--set", "retry.invalid_output=1"],
    ],
    ids=["direct", "sdk, with a schema"],
)
def test_what_is_too_long_or_too_deep_is_its_rows_affair(
    place: Place, server: Callable[..., Server], options: list[str]
) -> None:
    deep: list[_Reply] = [(status, {}, body) for depth in _DEPTHS for status, body in deep_replies(depth)]
    replies = deep + _GIANTS
    good: _Reply | None = None if options[1].startswith("output") else (200, {}, chat(said('{"a":1}')))

    def decide(arrival: Arrival) -> _Reply | None:
        return replies[arrival.row] if arrival.row < len(replies) else good

    place.configure(server(decide).url)
    place.write_rows(len(replies) + _GOOD)
    done = place.run("--set", "retry.attempts=1", "--set", "workers.count=1", *options)
    assert done.code == ExitCode.ROWS_FAILED, done.err
    assert "Traceback" not in place.log
    lines = place.lines
    assert len(lines) == len(replies) + _GOOD
    assert not [line for line in lines[len(replies) :] if line["error"]]
    told = [line["error"]["class"] if line["error"] else "" for line in lines[: len(replies)]]
    assert "internal_error" not in told
    for number, depth in enumerate(_DEPTHS):
        start = number * len(deep_replies(depth))
        here = [each for each, name in enumerate(told[start : start + 18]) if name == "reply_too_large"]
        assert here == _TOO_DEEP[depth], told
    assert told[-len(_GIANTS) : -1] == ["reply_too_large", "reply_too_large", "server_error", "invalid_request"]
    if options[1].startswith("output"):
        assert lines[len(replies) - 1]["output"] == "y" * (3 << 20)
        assert json.loads(lines[43]["output"][0]["function"]["arguments"][:1] + "]") == []
    assert place.report["sessions"][0]["deaths"] == 0
    assert place.report["sessions"][0]["rss_max_bytes"]["worker"] < 450 << 20
