"""What of a request a provider does not take: it says so as servers do, and answers whoever asks otherwise."""

import json
from functools import partial
from typing import Any

import pytest

from rowmill.core.config import TaskConfig
from rowmill.core.config.sections import InputConfig
from rowmill.core.request_form import SCHEMA_FORMS, USUAL, RequestForm, SchemaForm
from rowmill.core.wire import Failure, Reply
from rowmill.simulator import refusals
from rowmill.simulator.replies import RequestError, chat, event_stream, fingerprint, responses
from rowmill.tasks.factory import open_task
from rowmill.tasks.forms import RequestFormer
from rowmill.transport.faults import classify
from rowmill.transport.refused_forms import refused_part

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
ROUTES = {"chat.completions": ("/chat/completions", chat), "responses": ("/responses", responses)}


def refused(body: dict[str, Any], *names: str) -> Failure | None:
    try:
        refusals.refuse(json.dumps(body).encode(), names)
    except RequestError as error:
        return classify(Reply(error.status, error.body, lambda _: None))
    return None


@pytest.mark.parametrize(
    ("name", "body", "form", "part"),
    [
        ("whole", {}, USUAL, "whole"),
        ("stream_options", {"stream": True, "stream_options": {}}, RequestForm(stream=True), "usage"),
        ("json_schema", {"response_format": {"type": "json_schema"}}, USUAL, "schema"),
        ("json_schema", {"text": {"format": {"type": "json_schema"}}}, USUAL, "schema"),
        ("json_object", {"response_format": {"type": "json_object"}}, RequestForm(schema="json_object"), "schema"),
        ("tools", {"tools": [{}]}, RequestForm(schema="tool"), "schema"),
    ],
)
def test_each_refusal_is_understood(name: str, body: dict[str, Any], form: RequestForm, part: str) -> None:
    failure = refused(body, *refusals.NAMES) if name == "whole" else refused(body, name)
    assert failure is not None
    assert refused_part(failure, form) == part
    others = [each for each in refusals.NAMES if each not in (name, "whole")]
    assert refused(body, *others) is None


def test_what_is_no_request_is_left_to_who_answers_it() -> None:
    refusals.refuse(b"{", refusals.NAMES)
    assert refused({"stream": True}, "whole") is None


@pytest.mark.parametrize("api", ROUTES)
def test_whichever_way_a_schema_is_asked_for_the_reply_fits_it_whole_and_as_a_stream(api: str) -> None:
    config = TaskConfig(model="m", prompt="{a}", schema=SCHEMA, api=api)  # type: ignore[arg-type]  # one of them
    task = open_task(config, InputConfig(path="in.jsonl"))
    body = task.build(b'{"a":"what?"}').body
    path, route = ROUTES[api]
    found = set()
    for schema in SCHEMA_FORMS:
        form: SchemaForm = schema
        for stream in (False, True):
            former = RequestFormer(config, RequestForm(stream=stream, schema=form))
            sent = former.form(body)
            wish = event_stream.asked(path, sent)
            whole = sent if wish is None else wish.body
            reply = route.compose(whole, fingerprint(b"the same"), 0.0, None).body
            said = reply if wish is None else event_stream.events(path, reply, usage=wish.usage)
            answer = task.parse(former.read(said))
            assert set(json.loads(answer.output)) == {"n"}
            assert answer.finish_reason == b'"stop"'
            assert answer.completion_tokens
            found.add(answer.output)
    assert len(found) == 1


def test_words_about_a_schema_that_is_none_are_a_text_as_any() -> None:
    compose = partial(chat.compose, mark=fingerprint(b"m"))
    for words in ("JSON Schema:\nsee above", "JSON Schema:\n[1]", "JSON Schema:\n"):
        body = {"model": "m", "messages": [{"role": "user", "content": f"Explain\n\n{words}"}]}
        content = json.loads(compose(json.dumps(body).encode()).body)["choices"][0]["message"]["content"]
        assert content.startswith("In short: ")
