"""Servers and models as they are: they only stream, take no schema, or cut replies off. Each ends with right rows."""

import csv
import itertools
import json
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until

ROWS = 24
# And no request comes twice because it was held for long.
ONE_AT_A_TIME = ("--set", "workers.count=1", "--set", "workers.concurrency=1", "--set", "provider.timeout_s=60")
SCHEMA = ("--set", 'task.schema={type="object",properties={row={type="integer"}},required=["row"]}')
Decision = tuple[int, dict[str, str], bytes]


def refused(message: str, status: int = 400, **members: Any) -> Decision:
    return status, {}, json.dumps({"error": {"message": message, "type": "invalid_request_error", **members}}).encode()


def answered(message: dict[str, Any], finish_reason: str = "stop", tokens: int = 2) -> Decision:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **message}}
    usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
    return 200, {}, json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()


def streamed(text: str, *, usage: bool, end: bytes = b"data: [DONE]\n\n") -> Decision:
    head = {"id": "c", "object": "chat.completion.chunk", "model": "m"}

    def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}

    events = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": each}) for each in text)]
    events.append(chunk({}, "stop"))
    if usage:
        events.append({**head, "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    lines = b"".join(b": keep-alive\r\n\r\ndata: %b\r\n\r\n" % json.dumps(each).encode() for each in events)
    return 200, {"content-type": "text/event-stream"}, lines + end


def as_list(events: bytes) -> bytes:
    """Return a stream whose contents are lists of parts, but for the first, which is empty."""
    return re.sub(rb'"content": ("[^"]+")', rb'"content": [{"type": "text", "text": \1}]', events)


# As servers of the field write a stream, each of which says the same.
SHAPES: tuple[Callable[[bytes], bytes], ...] = (
    lambda events: events,
    lambda events: events.replace(b"\r\n", b"\r"),
    lambda events: events.replace(b"\r\n", b"\n"),
    lambda events: b"\xef\xbb\xbf" + events,
    lambda events: events.replace(b"data: ", b"data:"),
    lambda events: events.replace(b"data: ", b"id: 1\r\nevent: completion.chunk\r\ndata: "),
    lambda events: b"data: ping\r\n\r\n" + events,
    lambda events: events.replace(b'"index": 0', b'"index": null'),
    lambda events: events.replace(b'"finish_reason": null', b'"finish_reason": ""'),
    lambda events: events + b"data: [DONE]\r\n\r\ndata: {}\r\n\r\ndata: {",
    as_list,
    lambda events: events.rstrip(),
)


def test_a_server_that_only_streams_is_asked_for_streams(place: Place, server: Callable[..., Server]) -> None:
    """And one that does not know stream_options is not asked for the usage; a kill in between asks nothing anew."""

    def decide(arrival: Arrival) -> Decision:
        body = json.loads(arrival.body)
        if not body.get("stream"):
            return 400, {}, b'{"detail":"Stream must be set to true"}'
        if "stream_options" in body:
            detail = [
                {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
            ]
            return 422, {}, json.dumps({"object": "error", "message": {"detail": detail}}).encode()
        if arrival.row == 20 and arrival.nth == 1:
            status, headers, events = streamed("half", usage=False)
            return status, headers, events[: len(events) // 2]
        status, headers, events = streamed(f"für {arrival.row}", usage=False, end=b"")
        if arrival.row == 21 and arrival.nth == 1:
            return (
                status,
                headers,
                events[: len(events) // 2] + b'\r\n\r\nerror: {"code":500,"message":"the slot is gone"}',
            )
        return status, headers, SHAPES[arrival.row % len(SHAPES)](events)

    served = server(decide)
    place.configure(served.url)
    place.write_rows(ROWS)
    served.hold(10)
    run = place.start(*ONE_AT_A_TIME)
    forms = place.run_dir / "forms.json"
    until(lambda: forms.exists() and b'"usage":false' in forms.read_bytes(), "what was found out on the disk")
    until(lambda: len(served.arrivals) > 10 and len(place.recorded()) == 10 - 2, "eight rows on the disk")
    run.kill_all()
    served.go_on()
    done = place.run(*ONE_AT_A_TIME)
    assert done.code == 0, done.err
    assert [line["output"] for line in place.lines] == [f"für {row}" for row in range(ROWS)]
    asked = [json.loads(each.body) for each in served.arrivals]
    assert [each.get("stream") for each in asked].count(None) == 1
    assert sum("stream_options" in each for each in asked) == 1
    cut, gone, in_flight = 1, 1, 1
    assert len(asked) == ROWS + 2 + cut + gone + in_flight
    assert place.log.count("is asked as streams") == 3, place.log  # found out twice, and as it goes on
    assert "provider main: is asked as streams without usage from now on, for it has said" in done.err


@pytest.mark.parametrize("transport", ["direct", "sdk"])
def test_a_server_that_refuses_a_schema_is_asked_in_another_way(
    place: Place, server: Callable[..., Server], transport: str
) -> None:
    """By an object, by a tool, in words: the reply is held against the schema whatever it was asked by."""
    takes = {"direct": "json_object", "sdk": "tool"}[transport]

    def decide(arrival: Arrival) -> Decision:
        body = json.loads(arrival.body)
        wanted = body.get("response_format", {}).get("type") or ("tool" if "tools" in body else "prompt")
        if wanted == "json_schema":
            return refused("This response_format type is unavailable now")
        if wanted != takes:
            return refused("'response_format.type' : value is not one of the allowed values ['text']")
        value = {"row": arrival.row}
        if wanted == "tool":
            assert body["tool_choice"]["function"]["name"] == body["tools"][0]["function"]["name"]
            function = {"name": "give_answer", "arguments": json.dumps(value)}
            call = {"id": "c", "type": "function", "function": function}
            return answered({"content": None, "tool_calls": [call]}, "tool_calls")
        assert '"properties":{"row":{"type":"integer"}}' in body["messages"][-1]["content"]
        return answered({"content": json.dumps(value)})

    served = server(decide)
    place.configure(served.url)
    place.write_rows(ROWS)
    done = place.run(*ONE_AT_A_TIME, *SCHEMA, "--set", f"client.transport={transport}")
    assert done.code == 0, done.err
    assert [line["output"] for line in place.lines] == [{"row": row} for row in range(ROWS)]
    assert {line["finish_reason"] for line in place.lines} == {"stop"}
    probes = {"json_object": 1, "tool": 2}[takes]
    assert len(served.arrivals) == ROWS + probes
    told = {"json_object": "is asked for json_object", "tool": "is asked for the call of a tool"}[takes]
    assert place.log.count(told) == 1
    assert told in done.err
    assert place.report["totals"]["failed"] == 0


def stored(place: Place) -> int:
    """Count the replies that are on the disk, as outcomes or as those of rows that are asked once more."""
    checkpoints = [path.read_bytes() for path in (place.run_dir / "checkpoints").glob("*.checkpoint")]
    return sum(each.count(b' {"row":') + each.count(b' {"reply":') for each in checkpoints)


def test_a_reply_that_is_cut_off_is_asked_for_once_more_with_more_room(
    place: Place, server: Callable[..., Server]
) -> None:
    """Killed between the two, a row neither grows twice nor is lost; the cap of the run holds for both."""

    def decide(arrival: Arrival) -> Decision:
        body = json.loads(arrival.body)
        room = body["max_tokens"]
        needs = (50, 150, 500)[arrival.row % 3]
        cut = room < needs
        return answered({"content": f"{arrival.row} of {room}"}, "length" if cut else "stop", min(room, needs))

    served = server(decide)
    place.configure(served.url)
    place.write_rows(ROWS)
    keys = (
        "--set", "task.params.max_tokens=100", "--set", 'retry.on_finish=["length"]',
        "--set", 'task.fail_on_finish=["length"]',
    )  # fmt: skip
    served.hold(21)
    run = place.start(*ONE_AT_A_TIME, *keys)
    until(lambda: len(served.arrivals) > 21 and stored(place) == 21, "every reply on the disk")
    run.kill_all()
    served.go_on()
    done = place.run(*ONE_AT_A_TIME, *keys, "--set", "budget.max_tokens=4000")
    assert done.code == 3, done.err
    assert place.report["cost"]["tokens"] <= 4000
    done = place.run(*ONE_AT_A_TIME, *keys)
    assert done.code == 1, done.err
    for row, line in enumerate(place.lines):
        if row % 3 < 2:
            assert (line["output"], line["finish_reason"]) == (f"{row} of {100 + row % 3 * 100}", "stop")
        else:
            error = line["error"]
            assert (error["class"], error["code"], error["reply"]) == ("finish_reason", "length", f"{row} of 200")
    assert [line["index"] for line in place.failed] == list(range(2, ROWS, 3))
    assert place.report["failures"] == {"finish_reason": ROWS // 3}
    assert f"{ROWS // 3}: finish_reason {ROWS // 3}" in done.err
    asked = [(each.row, json.loads(each.body)["max_tokens"]) for each in served.arrivals]
    assert {cap for _, cap in asked} == {100, 200}
    assert len(set(asked)) == ROWS + 2 * ROWS // 3
    assert len(asked) - len(set(asked)) == 1  # in flight as it was killed
    assert place.log.count("replies that are cut off are asked for once more") == 3


STEPS = """
[[step]]
name = "draft"
prompt = "Draft: {text}"
params = { max_tokens = 10 }
fail_on_finish = ["length"]
[[step]]
name = "judge"
prompt = "Judge {draft} of {text}"
schema = { type = "object", required = ["score"], properties = { score = { type = "integer" } } }
"""


def test_each_step_is_asked_as_it_is_taken_and_a_kill_asks_nothing_anew(
    place: Place, server: Callable[..., Server]
) -> None:
    """Replies are cut in the first step; the second one's model only streams, and takes no schema."""
    hopeless, judged = 5, 6
    drafts, refusals = ROWS + ROWS // 2, 2
    gate, turns = threading.Event(), itertools.count()

    def decide(arrival: Arrival) -> Decision:
        body = json.loads(arrival.body)
        if body["messages"][-1]["content"].startswith("Draft"):
            assert not body.get("stream")
            cut = arrival.row % 2 and (body["max_tokens"] < 20 or arrival.row == hopeless)
            return answered({"content": f"{arrival.row} of {body['max_tokens']}"}, "length" if cut else "stop")
        if not body.get("stream"):
            return refused("This model only supports streaming")
        if body.get("response_format", {}).get("type") == "json_schema":
            return refused("Invalid value for response_format.type", 422)
        if next(turns) >= judged:
            assert gate.wait(60), "nobody has let it go on"
        return streamed(json.dumps({"score": arrival.row}), usage=True)

    served = server(decide)
    place.configure(served.url)
    with (place.folder / "config.toml").open("a") as config:
        config.write(STEPS)
    place.write_rows(ROWS)
    keys = (*ONE_AT_A_TIME, "--set", 'retry.on_finish=["length"]')
    run = place.start(*keys)
    drafted = place.run_dir / "steps" / "draft"

    def is_held() -> bool:
        """Whether all drafts are sealed, and six replies to the second step are on the disk, and one is waited for."""
        shards, sealed = ([*drafted.glob(each)] for each in ("checkpoints/*.checkpoint", "sealed/*.sealed"))
        asked = len(served.arrivals)
        done = len(place.recorded() - {hopeless})
        return asked == drafts + refusals + judged + 1 and len(shards) == len(sealed) > 0 and done == judged

    until(is_held, "six replies of the second step on the disk")
    run.kill_all()
    gate.set()
    done = place.run(*keys)
    assert done.code == 1, done.err
    lines = {line["index"]: line for line in place.lines}
    assert {row: line["output"] for row, line in lines.items() if row != hopeless} == {
        row: {"score": row} for row in range(ROWS) if row != hopeless
    }
    assert {row: line["input"]["draft"] for row, line in lines.items() if row != hopeless} == {
        row: f"{row} of {10 + row % 2 * 10}" for row in range(ROWS) if row != hopeless
    }
    assert [(line["index"], line["class"], line["step"]) for line in place.failed] == [
        (hopeless, "finish_reason", "draft")
    ]
    in_flight = 1
    assert len(served.arrivals) == drafts + refusals + (ROWS - 1) + in_flight
    assert place.log.count("in step judge: is asked as streams and for json_object") == 2, place.log


def test_several_choices_of_a_stream_are_a_list(place: Place, simulator: Callable[..., Witness]) -> None:
    """All of them are paid: the usage is the request's. A table has the list as JSON."""
    witness = simulator(refuse=("whole",))
    place.configure(witness.url)
    place.write_rows(3)
    keys = ("--set", "task.params.n=2", "--set", "provider.stream=true")
    done = place.run(*ONE_AT_A_TIME, *keys)
    assert done.code == 0, done.err
    lines = place.lines
    assert [len(line["output"]) for line in lines] == [2] * 3
    assert all(line["output"][0] != line["output"][1] for line in lines)
    assert witness.stats()["requests"] == 3
    assert "asked as streams" not in done.err  # nothing was found out
    assert place.report["cost"]["tokens"] == sum(line["usage"]["total_tokens"] for line in lines)
    again = ("--set", "output.path=out.csv", "--set", 'checkpoint.dir="out.jsonl.run"')
    assert place.run(*ONE_AT_A_TIME, *keys, *again).code == 0
    with (place.folder / "out.csv").open(newline="") as file:
        texts = [row["output"] for row in csv.DictReader(file)]
    assert [json.loads(text) for text in texts] == [line["output"] for line in lines]
    assert witness.stats()["requests"] == 3
