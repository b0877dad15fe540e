"""What a request looks like: asked of the openai package itself, once, before the run.

A configured `AsyncOpenAI` is made to send one request into a transport that only records it. Its URL and headers
then serve the direct transport, so that workers need not import `openai`, which takes over half a second and
80 MB. It runs in a process of its own, beside the start of the workers.
"""

import asyncio
import os
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import msgspec
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from engine.records import Endpoint
from engine.transport import is_loopback

# Account settings that the openai package takes from the environment and sends to whatever server it talks to.
_ACCOUNT_VARIABLES = (
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_CUSTOM_HEADERS",
    "OPENAI_BASE_URL",
)
# Belong to one message or one connection, not to the endpoint: the transport makes its own.
_PER_MESSAGE = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding"})
_TELEMETRY = "x-stainless-"  # the package's figures about itself; untrue of a request that it does not send


def configured_client(endpoint: Endpoint, **http: Any) -> AsyncOpenAI:
    """Return the `AsyncOpenAI` for this endpoint; `http` goes to its httpx2 client.

    For every server but OpenAI's own, the account settings of this process's environment are dropped first: a
    key, organisation or custom header meant for OpenAI must not reach another server.
    """
    if not endpoint.openai_account:
        for name in _ACCOUNT_VARIABLES:
            os.environ.pop(name, None)
    if endpoint.key is None:
        http["event_hooks"] = {"request": [_drop_authorization]}
    if is_loopback(endpoint.base_url):
        http["trust_env"] = False  # a proxy of the environment cannot reach this machine's own loopback
    base_url, _, query = endpoint.base_url.partition("?")
    return AsyncOpenAI(
        api_key=endpoint.key or "none",  # must be given; without a key the hook above keeps it off the wire
        base_url=base_url,
        default_query=dict(
            parse_qsl(query, keep_blank_values=True)
        ),  # in the URL itself the package would append the path behind it
        max_retries=0,  # one retry layer, ours: the package's would hide failures and hold the slot
        timeout=endpoint.timeout_s,
        http_client=DefaultAsyncHttpxClient(timeout=endpoint.timeout_s, follow_redirects=False, **http),
    )


async def _drop_authorization(request: httpx2.Request) -> None:
    request.headers.pop("authorization", None)


class _Recorder(httpx2.AsyncBaseTransport):
    """Takes the request and answers it with the smallest reply that the package accepts."""

    request: httpx2.Request

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.request = request
        return httpx2.Response(200, json={"id": "", "object": "", "created": 0, "model": "", "choices": []})


async def _recorded(endpoint: Endpoint, api: str) -> httpx2.Request:
    recorder = _Recorder()
    async with configured_client(endpoint, transport=recorder) as client:
        await create(client, api, {"model": "m", "messages": [{"role": "user", "content": ""}]})
    return recorder.request


async def create(client: AsyncOpenAI, api: str, body: dict[str, Any]) -> Any:
    """Make the API's call with this body through the package, and return its raw response."""
    assert api == "chat.completions"
    known = {key: body[key] for key in ("model", "messages")}
    extra = {key: value for key, value in body.items() if key not in known}
    # Everything else goes as extra_body: the package refuses parameters that only other servers know.
    return await client.chat.completions.with_raw_response.create(**known, extra_body=extra or None)


def resolve(endpoint: Endpoint, api: str) -> Endpoint:
    """Return the endpoint with `url` and `headers` as the openai package sends them."""
    request = asyncio.run(_recorded(endpoint, api))
    headers = tuple(
        (name, value)
        for name, value in request.headers.multi_items()
        if name not in _PER_MESSAGE and not name.startswith(_TELEMETRY)
    )
    return msgspec.structs.replace(endpoint, url=str(request.url), headers=headers)


def main(pipe: Connection) -> int:
    """Resolve an endpoint for the process at the other end, which sends `(endpoint, api)`.

    It gets back the endpoint, or a text that says why there is none.
    """
    try:
        endpoint, api = msgspec.msgpack.decode(pipe.recv_bytes(), type=tuple[Endpoint, str])
    except EOFError:
        return 1
    answer: Endpoint | str
    try:
        answer = resolve(endpoint, api)
    except Exception as error:  # noqa: BLE001 - whatever the package does not like goes to the user as its words
        answer = f"{type(error).__name__}: {error}"
    pipe.send_bytes(msgspec.msgpack.encode(answer))
    return 0
