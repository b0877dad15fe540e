"""What a request looks like: asked of the openai package itself, once, before the run.

A configured `AsyncOpenAI` is made to send one request into a transport that only records it. Its URL and headers
then serve the direct transport, so that workers need not import `openai`, which takes over half a second and
80 MB. That is done in a process of its own (see `resolver`), beside the start of the workers.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import msgspec
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, RequestOptions, omit

from rowmill.core.wire import CONTENT, Endpoint
from rowmill.transport import connect_timeout_s, is_loopback

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

    For every server but OpenAI's own, the account settings of this process's environment are out of its sight: a
    key, organisation or custom header meant for OpenAI must not reach another server.
    """
    http["event_hooks"] = {}
    if "transport" not in http:  # which makes its replies itself
        from rowmill.transport.bounded_replies import reply_reader

        http["event_hooks"]["response"] = [reply_reader()]
    if endpoint.key is None or endpoint.extra_headers:
        http["event_hooks"]["request"] = [_headers_of(endpoint)]
    if is_loopback(endpoint.base_url):
        http["trust_env"] = False  # a proxy of the environment cannot reach this machine's own loopback
    if endpoint.base_url.lower().startswith("https:") and "transport" not in http:
        http["verify"] = _trust(endpoint)
    timeout = httpx2.Timeout(endpoint.timeout_s, connect=connect_timeout_s(endpoint.timeout_s))
    base_url, _, query = endpoint.base_url.partition("?")
    with _account_hidden(hidden=not endpoint.openai_account):
        return AsyncOpenAI(
            api_key=endpoint.key or "none",  # must be given; without a key the hook above keeps it off the wire
            base_url=base_url,
            default_query=dict(
                parse_qsl(query, keep_blank_values=True)
            ),  # in the URL itself the package would append the path behind it
            max_retries=0,  # one retry layer, ours: the package's would hide failures and hold the slot
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False, **http),
        )


def _trust(endpoint: Endpoint) -> ssl.SSLContext:
    """Return whom a client trusts: the same on loopback, where nothing else of the environment counts.

    Of `SSL_CERT_DIR` every file counts, as for the direct transport, whatever its name.
    """
    context = httpx2.create_ssl_context()
    for folder in filter(None, os.environ.get("SSL_CERT_DIR", "").split(os.pathsep)):
        with suppress(OSError):
            for path in Path(folder).iterdir():
                with suppress(OSError):  # no certificate, or not for us to read
                    context.load_verify_locations(path)
    if endpoint.ca:
        context.load_verify_locations(cadata=endpoint.ca)
    return context


@contextmanager
def _account_hidden(*, hidden: bool) -> Iterator[None]:
    """Take the account settings out of the environment for a while: the package reads them as it makes a client.

    For a while only: the next provider of the same process may be OpenAI.
    """
    taken = {name: os.environ.pop(name) for name in _ACCOUNT_VARIABLES if hidden and name in os.environ}
    try:
        yield
    finally:
        os.environ.update(taken)


def _headers_of(endpoint: Endpoint) -> Callable[[httpx2.Request], Awaitable[None]]:
    """Return the hook that makes the package's headers the endpoint's, on their way out.

    The package's own way of adding headers keeps two of one name where only the case differs.
    """

    async def dress(request: httpx2.Request) -> None:
        if endpoint.key is None:
            request.headers.pop("authorization", None)
        request.headers.update(endpoint.extra_headers)

    return dress


class _Recorder(httpx2.AsyncBaseTransport):
    """Takes the request and answers it with nothing."""

    request: httpx2.Request

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.request = request
        return httpx2.Response(200)


async def _recorded(endpoint: Endpoint, api: str) -> httpx2.Request:
    recorder = _Recorder()
    async with configured_client(endpoint, transport=recorder) as client:
        # Not by `create`: the package's resources take as long to import as all that is asked here. A test holds that
        # it sends the same.
        options: RequestOptions = {"security": {"bearer_auth": True}}
        await client.post(f"/{api.replace('.', '/')}", body={}, cast_to=httpx2.Response, options=options)
    return recorder.request


async def create(client: AsyncOpenAI, api: str, body: dict[str, Any]) -> Any:
    """Make the API's call with this body through the package, and return its raw response."""
    # The package wants these two; everything else goes as extra_body, for it refuses parameters that only other
    # servers know. What a body lacks, a batch file's for one, is the server's to refuse.
    known = {key: body.get(key, omit) for key in ("model", CONTENT[api])}
    # A format must be named, else the package asks for another one than an API that is not told.
    named = {"encoding_format": "float"} if api == "embeddings" else {}
    extra = {key: value for key, value in body.items() if key not in known}
    resource = {
        "chat.completions": client.chat.completions,
        "responses": client.responses,
        "completions": client.completions,
        "embeddings": client.embeddings,
        "moderations": client.moderations,
    }[api]
    return await resource.with_raw_response.create(**known, **named, extra_body=extra or None)  # type: ignore[attr-defined]  # each has it


def resolve(endpoint: Endpoint, api: str) -> Endpoint:
    """Return the endpoint with `url` and `headers` as the openai package sends them."""
    request = asyncio.run(_recorded(endpoint, api))
    given = {name.lower() for name, _ in endpoint.extra_headers}
    headers = tuple(
        (name, value)
        for name, value in request.headers.multi_items()
        if name in given or (name not in _PER_MESSAGE and not name.startswith(_TELEMETRY))
    )
    return msgspec.structs.replace(endpoint, url=str(request.url), headers=headers)
