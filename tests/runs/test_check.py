"""`rowmill check` asks as a run would, until the server takes it."""

import asyncio
import json
from typing import Any

from rowmill.core import config as configuration
from rowmill.core.request_form import RequestForm
from rowmill.core.wire import Failure, Reply
from rowmill.runs.check import _sent


class Streams:
    """The wire to a server that only streams, and knows no stream_options."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def send(self, body: bytes) -> Reply | Failure:
        self.sent.append(json.loads(body))
        if "stream" not in self.sent[-1]:
            return Reply(400, b'{"detail":"Stream must be set to true"}', lambda _: None)
        if "stream_options" in self.sent[-1]:
            return Reply(400, b'{"detail":"stream_options: Extra inputs are not permitted"}', lambda _: None)
        chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
        return Reply(200, b"data: %b\n\ndata: [DONE]\n\n" % json.dumps(chunk).encode(), lambda _: None)

    async def close(self) -> None:
        pass


def test_the_form_that_a_server_wants_is_found_out_unless_it_is_set() -> None:
    def sent(**provider: Any) -> tuple[Reply | Failure, RequestForm, int]:
        document = {
            "input": {"path": "in.jsonl"}, "task": {"model": "m", "prompt": "{a}"}, "output": {"path": "o.jsonl"},
            "provider": [provider],
        }  # fmt: skip
        config = configuration.parse(document, "test")
        wire = Streams()
        reply, form = asyncio.run(_sent(config, config.provider[0], wire, b'{"model":"m","messages":[]}'))
        return reply, form, len(wire.sent)

    reply, form, requests = sent()
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["choices"][0]["message"] == {"content": "a"}
    assert (form.words, requests) == ("as streams without usage", 3)
    reply, form, requests = sent(stream=True)
    assert (form, requests) == (RequestForm(stream=True, usage=False), 2)
    reply, form, requests = sent(stream=False)
    assert isinstance(reply, Reply)
    assert (reply.status, form.words, requests) == (400, "", 1)
