"""Every route over real sockets: the openai package's view, the same stations for all, content faults, figures."""

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import openai
import pytest
import uvloop
from pydantic import BaseModel

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import digest
from rowmill.simulator.routes import ROUTES
from rowmill.simulator.server import running

if TYPE_CHECKING:
    from tests.simulator.conftest import Ask

FAST = SimulatorSettings(latency_ms=0)
BODIES: dict[str, dict[str, Any]] = {
    "/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    "/responses": {"input": "a"},
    "/completions": {"prompt": "a"},
    "/embeddings": {"input": "a", "dimensions": 3},
    "/moderations": {"input": "a"},
}
PACKED = {
    "type": "object",
    "properties": {
        "answers": {
            "type": "array",
            "items": {"type": "object", "properties": {"id": {"type": "string"}, "answer": {"type": "string"}}},
        }
    },
}


class Book(BaseModel):
    """A reply by a schema, as the package asks for it."""

    title: str
    year: int


def _body(route: str, **extra: Any) -> bytes:
    return json.dumps({"model": "sim-small", **BODIES[route], **extra}).encode()


def _structured(content: str, schema: Any = None) -> bytes:
    schema = schema or {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    return _body("/chat/completions", messages=[{"role": "user", "content": content}], response_format=form)


def test_the_sdk_reads_every_route() -> None:
    async def exchange() -> None:
        async with (
            running(FAST) as port,
            openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/east/v1", api_key="sk-test", max_retries=0) as client,
        ):
            answered = await client.responses.create(model="m", input="What?", instructions="Be short.")
            assert digest("What?") in answered.output_text
            parsed = await client.responses.parse(model="m", input="A book.", text_format=Book)
            assert digest("A book.") in (parsed.output_parsed or Book(title="", year=0)).title
            chat = await client.chat.completions.parse(
                model="m", messages=[{"role": "user", "content": "A book."}], response_format=Book
            )
            assert chat.choices[0].message.parsed == parsed.output_parsed
            completed = await client.completions.create(model="m", prompt="Once")
            assert digest("Once") in completed.choices[0].text
            embedded = await client.embeddings.create(model="m", input=["a", "b"])
            assert [len(vector.embedding) for vector in embedded.data] == [1536, 1536]
            judged = await client.moderations.create(input=["[[flag]]", "fine"])
            assert [result.flagged for result in judged.results] == [True, False]

    uvloop.run(exchange())


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_passes_the_same_stations(ask: "Ask", route: str) -> None:
    async def exchange() -> None:
        settings = SimulatorSettings(latency_ms=0, script=("503", "truncated", "ok"), requests_per_minute=180)
        async with running(settings) as port:
            path, body = f"/v1{route}", _body(route)
            assert (await ask(port, path, body, key="invalid")).status == 401
            assert (await ask(port, path, b"{")).status == 400
            statuses = []
            for _ in range(4):
                answer = await ask(port, path, body)
                statuses.append(answer.status)
                assert answer.headers["x-ratelimit-limit-requests"] == "180"
            assert statuses == [503, 200, 200, 429]
            assert (await ask(port, f"/east{path}", body)).status == 503
            figures = (await ask(port, "/stats")).json["providers"]["default"]
            assert figures["by_route"] == {route: 6}
            assert figures["inputs"] == {route: 2}
            assert figures["by_fault"] == {"503": 1, "truncated": 1}
            assert figures["repeated_after_success"] == 1

    uvloop.run(exchange())


def test_the_same_body_on_another_route_is_another_request(ask: "Ask") -> None:
    async def exchange() -> None:
        body = json.dumps({"model": "m", "input": "a"}).encode()
        async with running(FAST) as port:
            for route in ("/responses", "/embeddings", "/moderations"):
                assert (await ask(port, f"/v1{route}", body)).status == 200
            figures = (await ask(port, "/stats")).json["total"]
            assert (figures["distinct"], figures["repeated_after_success"], figures["answered_twice"]) == (3, 0, 0)
            assert figures["by_route"] == {"/embeddings": 1, "/moderations": 1, "/responses": 1}

    uvloop.run(exchange())


def test_inputs_count_the_texts_of_lists_and_the_prompts_of_packs(ask: "Ask") -> None:
    async def exchange() -> None:
        pack = json.dumps([{"id": str(number), "prompt": "a"} for number in range(20)])
        async with running(FAST) as port:
            assert (await ask(port, "/v1/embeddings", _body("/embeddings", input=["a"] * 64))).status == 200
            assert (await ask(port, "/v1/chat/completions", _structured(pack, PACKED))).status == 200
            figures = (await ask(port, "/stats")).json["total"]
            assert figures["inputs"] == {"/chat/completions": 20, "/embeddings": 64}

    uvloop.run(exchange())


def test_content_faults_strike_replies_in_json_alone_and_are_billed(ask: "Ask") -> None:
    async def exchange() -> None:
        settings = SimulatorSettings(latency_ms=0, content_faults={"cut": 0.5, "wrong-type": 0.2})
        async with running(settings) as port:
            good = 0
            for row in range(60):
                answer = await ask(port, body=_structured(str(row)))
                assert answer.status == 200
                choice = answer.json["choices"][0]
                if choice["finish_reason"] == "stop":
                    good += isinstance(json.loads(choice["message"]["content"])["n"], int)
            for route in ROUTES:
                assert (await ask(port, f"/v1{route}", _body(route))).status == 200
            figures = (await ask(port, "/stats")).json["total"]
            assert set(figures["by_fault"]) == {"cut", "wrong-type"}
            assert sum(figures["by_fault"].values()) == 60 - good
            assert 20 < figures["by_fault"]["cut"] < 40
            assert figures["inputs"]["/chat/completions"] == 61
            assert figures["by_status"] == {"200": 65}

    uvloop.run(exchange())


def test_a_reply_that_a_content_fault_has_struck_is_no_success(ask: "Ask") -> None:
    async def exchange() -> None:
        # The script is for all requests: what is no JSON that was asked for stays good.
        settings = SimulatorSettings(latency_ms=0, script=("missing", "ok", "ok", "cut"))
        async with running(settings) as port:
            statuses = Counter([(await ask(port, body=_structured("a"))).status for _ in range(3)])
            assert statuses == {200: 3}
            assert (await ask(port, body=_body("/chat/completions"))).json["choices"][0]["finish_reason"] == "stop"
            figures = (await ask(port, "/stats")).json["total"]
            assert figures["by_fault"] == {"missing": 1}
            assert (figures["repeated_after_damage"], figures["repeated_after_success"]) == (1, 1)

    uvloop.run(exchange())
