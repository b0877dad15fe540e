"""A provider that refuses the form of requests is asked in another one, and its rows lose nothing by that."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from rowmill.core.config import TaskConfig
from rowmill.core.request_form import FormPart, RequestForm
from rowmill.core.wire import Reply, Request
from rowmill.tasks import forms
from rowmill.transport import faults
from rowmill.worker.live.provider import Provider
from tests.worker.live.conftest import SECRET, TASK, Result, Start, Wire, failure, reply, run
from tests.worker.live.test_second_asks import SCHEMA, Model
from tests.worker.live.test_second_asks import task as structured

ALL: frozenset[FormPart] = frozenset({"whole", "usage", "schema"})
CONFIG = TaskConfig(model="m", prompt="{text}")
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


def refusal(message: str, status: int = 400) -> Reply:
    return reply(status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode())


def streamed(text: str, *, end: bool = True) -> Reply:
    chunk = {
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop" if end else None}],
    }
    return reply(200, b"data: %b\n\n" % json.dumps(chunk).encode())


def whole(text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"model": "m", "choices": [choice]}).encode()


def schema(body: bytes) -> bytes:
    """Stand for a task with a schema."""
    return json.dumps({**json.loads(body), "response_format": FORMAT}).encode()


def one(wire: Wire, **more: Any) -> list[Provider]:
    more = {"former_of": partial(forms.former, CONFIG), "open_parts": ALL, **more}
    return [Provider(0, "main", wire, secrets=(SECRET,), **more)]


def by_body(rule: Callable[[dict[str, Any], int], Result], wire: Wire) -> None:
    wire.rule = lambda row, _nth: rule(json.loads(wire.sent[-1][1]), row)


def test_whole_replies_are_refused_once_and_all_rows_come_as_streams(work: Start) -> None:
    wire = Wire()

    def rule(body: dict[str, Any], row: int) -> Result:
        if not body.get("stream"):
            return refusal("Stream must be set to true")
        if "stream_options" in body:
            return refusal("stream_options: Extra inputs are not permitted", 422)
        return streamed(f"row {row}")

    by_body(rule, wire)

    async def story() -> None:
        async with work(50, wire, providers=one, concurrency=4) as at:
            at.feed()
            await at.done()
            found = await at.outcomes()
            assert [found[row]["line"]["output"] for row in range(50)] == [f"row {row}" for row in range(50)]
            assert {record["attempts"] for record in found.values()} == {1}
            refused = len(wire.sent) - 50
            assert 2 <= refused <= 4 + 1  # those that were in flight as it was found out, and one in the next form
            assert [each.form for each in at.told.formed] == [
                RequestForm(stream=True),
                RequestForm(stream=True, usage=False),
            ]
            assert at.told.formed[0].reason == "invalid_request (HTTP 400, Stream must be set to true)"
            assert at.dispatcher.counters.faults == {"invalid_request": refused}

    run(story())


def test_a_schema_is_asked_for_in_the_next_way_until_one_is_taken(work: Start) -> None:
    """A server that fails by a 500 is not taken for a sick one."""
    wire = Wire()

    def rule(body: dict[str, Any], _row: int) -> Result:
        if "response_format" in body:
            return refusal(
                'response_format type must be one of "text", but got: ' + body["response_format"]["type"], 500
            )
        return refusal("this model does not support tools") if "tools" in body else reply()

    by_body(rule, wire)

    async def story() -> None:
        async with work(8, wire, providers=partial(one, rewrite=schema), concurrency=1) as at:
            at.feed()
            await at.done()
            assert [each.form.schema for each in at.told.formed] == ["json_object", "tool", "prompt"]
            assert len(wire.sent) == 8 + 3
            assert at.told.tripped == []
            assert at.dispatcher.counters.maybe_billed_twice == 0

    run(story())


@pytest.mark.parametrize(("by_model", "expected"), [(False, 1), (True, 0)])
def test_what_was_answered_in_a_form_is_refused_for_what_is_in_the_row(
    work: Start, *, by_model: bool, expected: int
) -> None:
    """Unless each row may have a model of its own."""
    wire = Wire()

    def rule(body: dict[str, Any], row: int) -> Result:
        kind = body["response_format"]["type"]
        return refusal("response_format is not supported") if row == 5 and kind == "json_schema" else reply()

    by_body(rule, wire)

    async def story() -> None:
        async with work(10, wire, providers=partial(one, rewrite=schema, by_model=by_model), concurrency=1) as at:
            at.feed()
            await at.done()
            failed = [record for record in (await at.outcomes()).values() if record["failed"]]
            assert len(failed) == expected
            assert len(at.told.formed) == 1 - expected

    run(story())


@pytest.mark.parametrize(
    ("heeds", "formed", "failed", "asked"),
    [("words", ["json_object"], 0, 2 + 6), ("schema", [], 1, 6 + 2), ("nothing", ["json_object"], 6, 3 * 6)],
)
def test_who_takes_a_schema_and_does_not_look_at_it_is_asked_in_words(
    work: Start, heeds: str, formed: list[str], failed: int, asked: int
) -> None:
    """As Anthropic's server, which ignores the format. Two replies of prose show it, if there was no other."""

    def say(rows: list[int], _nth: int) -> Any:
        (row,) = rows
        in_words = "JSON Schema" in json.dumps(model.bodies[-1]["messages"])
        right = {"words": in_words, "schema": row != 3, "nothing": False}[heeds]
        return {"n": row} if right else f"Sure! Row {row} is a nice one."

    model = Model(say)
    config = TaskConfig(model="m", prompt="{text}", schema=SCHEMA)
    providers = partial(one, former_of=partial(forms.former, config))

    async def story() -> None:
        async with work(6, model, task=structured(schema=SCHEMA), providers=providers, concurrency=1) as at:
            at.feed()
            await at.done()
            found = await at.outcomes()
            assert [each.form.schema for each in at.told.formed] == formed
            assert sum(record["failed"] for record in found.values()) == failed
            assert len(model.bodies) == asked

    run(story())


def test_a_row_that_is_refused_in_every_form_takes_no_other_row_with_it(work: Start) -> None:
    """Though it is the first one: between its tries others show that the form is taken. In a 200, too."""
    wire = Wire()

    def rule(body: dict[str, Any], row: int) -> Result:
        if row == 0:
            kind = body.get("response_format", {}).get("type")
            said = f"response_format {kind} is not supported for this input"
            return reply(200, json.dumps({"code": "1210", "msg": said, "success": False}).encode())
        return reply()

    by_body(rule, wire)

    async def story() -> None:
        async with work(6, wire, providers=partial(one, rewrite=schema), concurrency=1, attempts=1) as at:
            at.feed()
            await at.done()
            failed = [row for row, record in (await at.outcomes()).items() if record["failed"]]
            assert failed == [0]
            assert [each.form.schema for each in at.told.formed] == ["json_object"]
            assert wire.rows == [0, 1, 0, 2, 3, 4, 5]

    run(story())


def test_what_may_not_be_changed_fails_as_it_did(work: Start) -> None:
    wire = Wire(lambda _row, _nth: refusal("Stream must be set to true"))

    async def story() -> None:
        async with work(3, wire, providers=partial(one, open_parts=frozenset())) as at:
            at.feed()
            await at.done()
            assert all(record["failed"] for record in (await at.outcomes()).values())
            assert at.told.formed == []
            assert len(wire.sent) == 3

    run(story())


def test_word_of_another_worker_is_taken_beside_what_is_known_here() -> None:
    provider = one(Wire(), form=RequestForm(schema="tool"))[0]
    both = RequestForm(stream=True, schema="tool")
    request = Request(b"{}", b"null", 0)
    assert provider.take_form(RequestForm(stream=True, schema="json_object"), 5.0)
    assert not provider.take_form(both, 5.1)
    stream = failure(faults.INVALID_REQUEST, message="Stream must be set to true", status=400)
    assert provider.form_after(request, stream, 4.0) == (both, None)  # it was sent before the word came
    assert provider.form_after(request, stream, 5.5) is None


def test_each_model_that_rows_name_has_a_form_of_its_own(work: Start) -> None:
    """One that only streams, one that cannot, one that takes no schema: none is asked as another wants it."""
    wire = Wire()
    models = ("plain", "streams", "schemaless")

    def named(body: bytes) -> bytes:
        members = json.loads(schema(body))
        row = int(members["messages"][-1]["content"].split()[-1])
        return json.dumps({**members, "model": models[row % 3]}).encode()

    def rule(body: dict[str, Any], row: int) -> Result:
        model = body["model"]
        assert model == models[row % 3]
        if model != "streams" and body.get("stream"):
            return failure(faults.INVALID_ROW)
        if model == "streams" and not body.get("stream"):
            return refusal("This model only supports streaming")
        if model == "schemaless" and body["response_format"]["type"] == "json_schema":
            return refusal("This response_format type is unavailable now")
        return streamed(f"row {row}") if body.get("stream") else reply(200, whole(f"row {row}"))

    by_body(rule, wire)

    async def story() -> None:
        async with work(30, wire, providers=partial(one, rewrite=named, by_model=True), concurrency=1) as at:
            at.feed()
            await at.done()
            found = await at.outcomes()
            assert [found[row]["line"]["output"] for row in range(30)] == [f"row {row}" for row in range(30)]
            assert [(each.model, each.form) for each in at.told.formed] == [
                ("streams", RequestForm(stream=True)),
                ("schemaless", RequestForm(schema="json_object")),
            ]
            assert len(wire.sent) == 30 + 2

    run(story())


@pytest.mark.parametrize("body", [streamed("half", end=False).body, b"data: {\n\n"])
def test_a_stream_that_is_cut_is_tried_again_and_never_half_an_answer(work: Start, body: bytes) -> None:
    wire = Wire(lambda _row, nth: reply(200, body) if nth == 1 else streamed("whole"))

    async def story() -> None:
        async with work(4, wire, providers=partial(one, form=RequestForm(stream=True))) as at:
            at.feed()
            await at.done()
            found = await at.outcomes()
            assert {record["line"]["output"] for record in found.values()} == {"whole"}
            assert {record["attempts"] for record in found.values()} == {2}
            assert at.dispatcher.counters.faults == {"bad_reply": 4}

    run(story())


def test_an_error_in_mid_stream_is_what_it_says(work: Start) -> None:
    error = b'data: {"error":{"message":"Rate limit reached","code":429}}\n\n'
    wire = Wire(lambda _row, nth: reply(200, streamed("a", end=False).body + error) if nth == 1 else streamed("b"))

    async def story() -> None:
        async with work(2, wire, providers=partial(one, form=RequestForm(stream=True)), concurrency=1) as at:
            at.feed()
            await at.done()
            assert {record["line"]["output"] for record in (await at.outcomes()).values()} == {"b"}
            assert at.dispatcher.counters.faults == {"rate_limited": 2}

    run(story())


def test_an_ordinary_provider_sends_by_its_wire_and_rewrites_nothing() -> None:
    wire = Wire()
    (provider,) = one(wire)
    assert provider.send == wire.send
    assert provider.rewrite is None
    ask = TASK.asking("other")
    assert one(wire, rewrite=ask)[0].rewrite is ask
