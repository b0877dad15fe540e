"""The resolver asks what is needed of the openai package, and gets what all of it would send."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from rowmill.core.wire import CONTENT, Endpoint
from rowmill.ipc import processes
from rowmill.transport.endpoint import configured_client, create

_ACCOUNT = {"OPENAI_ORG_ID": "org-1", "OPENAI_PROJECT_ID": "proj-1", "OPENAI_ADMIN_KEY": "sk-admin"}
_ENDPOINTS = [
    Endpoint("plain", "http://127.0.0.1:1/v1", "sk-test", openai_account=False, timeout_s=20.0),
    Endpoint("keyless", "http://h.example/a/v1/?api-version=3&b=", None, openai_account=False, timeout_s=20.0),
    Endpoint("openai", "https://api.openai.com/v1", "sk-test", openai_account=True, timeout_s=20.0),
    Endpoint(
        "own",
        "https://h.example/v1",
        "sk-test",
        openai_account=False,
        timeout_s=2.0,
        extra_headers=(("x-team", "a"), ("User-Agent", "b"), ("authorization", "Basic c")),
    ),
]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _ACCOUNT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Custom: 1")


def resolved(endpoints: list[Endpoint], api: str, module: str = "rowmill.transport.resolver") -> list[Endpoint] | str:
    """Ask the process."""
    child = processes.start(module, "test-resolver")
    with child.pipe as pipe:
        pipe.send_bytes(msgspec.msgpack.encode((endpoints, api)))
        answer = msgspec.msgpack.decode(pipe.recv_bytes(), type=list[Endpoint] | str)
    child.process.join(30)
    assert child.process.exitcode == 0
    return answer


def sent_by_the_package(endpoint: Endpoint, api: str) -> tuple[str, dict[str, str]]:
    """Return URL and headers of a call of the whole package."""
    seen: list[httpx2.Request] = []
    lists: dict[str, list[Any]] = {name: [] for name in ("choices", "output", "data", "results")}
    reply = json.dumps({"id": "", "object": "", "created": 0, "model": "", **lists}).encode()

    class Recorder(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            seen.append(request)
            return httpx2.Response(200, content=reply, headers={"content-type": "application/json"})

    async def call() -> None:
        async with configured_client(endpoint, transport=Recorder()) as client:
            await create(client, api, {"model": "m", CONTENT[api]: []})

    asyncio.run(call())
    return str(seen[0].url), dict(seen[0].headers)


def test_what_it_tells_is_what_the_whole_package_sends_by_every_api(account: None) -> None:
    own = {"host", "content-length", "connection", "accept-encoding"}  # of one message or one connection
    found = {api: resolved(_ENDPOINTS, api) for api in ("chat.completions", "embeddings")}
    # The others have the same headers: what differs is the path, which test_endpoint holds for every API.
    for api, answer in found.items():
        assert isinstance(answer, list)
        for asked, endpoint in zip(_ENDPOINTS, answer, strict=True):
            url, headers = sent_by_the_package(asked, api)
            told = {name.lower(): value for name, value in endpoint.headers}
            expected = {
                name: value for name, value in headers.items() if name not in own and not name.startswith("x-stainless")
            }
            assert (endpoint.url, told) == (url, expected), endpoint
    assert os.environ["OPENAI_ORG_ID"] == "org-1"


def test_the_whole_package_sends_every_api_alike(account: None) -> None:
    """Which is what makes a path of the API's name all that has to be known of one."""
    seen = [sent_by_the_package(_ENDPOINTS[0], api) for api in CONTENT]
    assert [url for url, _ in seen] == [f"http://127.0.0.1:1/v1/{api.replace('.', '/')}" for api in CONTENT]
    bodies = ("content-length", "x-stainless-raw-response")
    alike = [{name: value for name, value in headers.items() if name not in bodies} for _, headers in seen]
    assert all(headers == alike[0] for headers in alike)


def test_it_imports_neither_aiohttp_nor_the_resources_and_few_of_the_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rowmill_test_resolver.py").write_text(
        "import sys\nfrom rowmill.transport import resolver\n"
        "def main(pipe):\n    status = resolver.main(pipe)\n"
        "    resources = [name for name in sys.modules if name.startswith('openai.resources.')]\n"
        "    types = [name for name in sys.modules if name.startswith('openai.types')]\n"
        "    return status or len(resources) or len(types) // 25 or ('aiohttp' in sys.modules)\n"
    )
    assert isinstance(resolved(_ENDPOINTS, "embeddings", "rowmill_test_resolver"), list)
