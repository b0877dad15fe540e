"""The openai package's own client of an endpoint, for the sdk transport and for batches.

What the direct transport sends in its place stands in `request_head`: workers need not import `openai`, which takes
over half a second and 80 MB.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import httpx2
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, omit

from rowmill.core.wire import CONTENT, Endpoint
from rowmill.transport import connect_timeout_s, is_loopback
from rowmill.transport.http1 import tls_trust

# Account settings that the openai package takes from the environment and sends to whatever server it talks to.
_ACCOUNT_VARIABLES = (
    "OPENAI_API_KEY",
    "OPENAI_ADMIN_KEY",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_CUSTOM_HEADERS",
    "OPENAI_BASE_URL",
)


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
        # The same as for the direct transport, on loopback too, where nothing else of the environment counts.
        http["verify"] = tls_trust.context(endpoint.ca, endpoint.identity)
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
