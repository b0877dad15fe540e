"""Streams, as the openai package reads them over a real socket: what they say is what the whole reply says."""

import asyncio
from collections.abc import Awaitable, Callable

import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from rowmill.core.simulator import SimulatorSettings
from rowmill.simulator.replies import event_stream
from rowmill.simulator.server import running

FAST = SimulatorSettings(latency_ms=0)


def _with_client(talk: Callable[[openai.AsyncOpenAI], Awaitable[None]], settings: SimulatorSettings = FAST) -> None:
    async def exchange() -> None:
        async with (
            running(settings) as port,
            openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-test", max_retries=0) as client,
        ):
            await talk(client)

    asyncio.run(exchange())


def _user(text: str) -> ChatCompletionUserMessageParam:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("text", ["What is\na  shard? ", "[[refuse]] this"])
def test_a_chat_completion(text: str) -> None:
    async def talk(client: openai.AsyncOpenAI) -> None:
        create = client.chat.completions.create
        whole = await create(model="sim-small", messages=[_user(text)], seed=1)
        stream = await create(
            model="sim-small", messages=[_user(text)], seed=1, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
        message = whole.choices[0].message
        assert "".join(delta.content or "" for delta in deltas) == (message.content or "")
        assert "".join(delta.refusal or "" for delta in deltas) == (message.refusal or "")
        assert len(deltas) > 4
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        assert reasons == [None] * (len(reasons) - 1) + ["stop"]
        assert chunks[-1].usage == whole.usage
        assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
        bare = await create(model="sim-small", messages=[_user(text)], seed=1, stream=True)
        assert [chunk.usage async for chunk in bare] == [None] * len(deltas)

    _with_client(talk)


def test_several_choices_of_a_chat_completion() -> None:
    async def talk(client: openai.AsyncOpenAI) -> None:
        create = client.chat.completions.create
        whole = await create(model="sim-small", messages=[_user("a b")], n=3)
        texts = dict.fromkeys(range(3), "")
        stream = await create(
            model="sim-small", messages=[_user("a b")], n=3, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        assert [*texts.values()] == [choice.message.content for choice in whole.choices]
        assert chunk.usage == whole.usage

    _with_client(talk)


def test_a_completion() -> None:
    async def talk(client: openai.AsyncOpenAI) -> None:
        whole = await client.completions.create(model="sim-small", prompt=["a b", "c"], max_tokens=5)
        stream = await client.completions.create(
            model="sim-small", prompt=["a b", "c"], max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        for choice in whole.choices:
            of_it = [each for chunk in chunks for each in chunk.choices if each.index == choice.index]
            assert "".join(each.text for each in of_it) == choice.text
            assert of_it[-1].finish_reason == choice.finish_reason == "length"
        assert chunks[-1].usage == whole.usage

    _with_client(talk)


@pytest.mark.parametrize("text", ["What is a shard?", "[[refuse]] this"])
def test_a_response(text: str) -> None:
    async def talk(client: openai.AsyncOpenAI) -> None:
        whole = await client.responses.create(model="sim-small", input=text)
        stream = await client.responses.create(model="sim-small", input=text, stream=True)
        events = [event async for event in stream]
        assert [event.sequence_number for event in events] == list(range(len(events)))
        said = [e for e in events if e.type in ("response.output_text.delta", "response.refusal.delta")]
        message = whole.output[0]
        assert message.type == "message"
        part = message.content[0]
        assert "".join(e.delta for e in said) == (part.text if part.type == "output_text" else part.refusal)
        last = events[-1]
        assert last.type == "response.completed"
        assert (last.response.output_text, last.response.usage) == (whole.output_text, whole.usage)

    _with_client(talk)


def test_a_fault_is_answered_as_without_a_stream() -> None:
    async def talk(client: openai.AsyncOpenAI) -> None:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="sim-small", messages=[_user("a")], stream=True)
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="unknown-1", messages=[_user("a")], stream=True)

    _with_client(talk, SimulatorSettings(latency_ms=0, script=("429",)))


@pytest.mark.parametrize("body", [b'{"model":"m","stream":false}', b'{"model":"m"}', b'{"stream":tru', b'["stream"]'])
def test_only_what_asks_for_a_stream_gets_one(body: bytes) -> None:
    assert event_stream.asked("/chat/completions", body) is None


def test_a_model_by_its_name() -> None:
    async def talk(client: openai.AsyncOpenAI) -> None:
        assert (await client.models.retrieve("sim-small")).id == "sim-small"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("unknown-1")

    _with_client(talk)
