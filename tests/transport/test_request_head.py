"""URL and headers as they are worked out, against what the installed openai package really sends."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx2
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rowmill.core.config import SIMULATOR
from rowmill.core.config.provider_checks import has_host_and_port
from rowmill.core.errors import ConfigError, MachineError
from rowmill.core.wire import CONTENT, Endpoint
from rowmill.transport.openai_client import configured_client, create
from rowmill.transport.request_head import with_head

Headers = tuple[tuple[str, str], ...]

ACCOUNT = {
    "OPENAI_API_KEY": "sk-environment",
    "OPENAI_ADMIN_KEY": "sk-admin",
    "OPENAI_ORG_ID": "org-1",
    "OPENAI_PROJECT_ID": "proj-1",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/elsewhere",
    "OPENAI_WEBHOOK_SECRET": "whsec",
    "OPENAI_API_TYPE": "azure",
    "OPENAI_API_VERSION": "2024-02-01",
    "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9/azure",
}
ENVIRONMENTS: list[dict[str, str]] = [
    {},
    ACCOUNT,
    {"OPENAI_ORG_ID": "", "OPENAI_PROJECT_ID": "p"},
    {"OPENAI_CUSTOM_HEADERS": "X-One: 1\nx-two:2 : 3\nno colon\nX-One:  again \r\n\nx-one: other case"},
    {
        **ACCOUNT,
        "OPENAI_CUSTOM_HEADERS": "user-agent: mine\nOpenAI-Project: other\nopenai-organization: o\nAccept: a/b",
    },
    {**ACCOUNT, "OPENAI_CUSTOM_HEADERS": "X-A: 1\nAuthorization: Basic b\nx-stainless-os: Plan9\nCookie: c=d"},
    {"OPENAI_CUSTOM_HEADERS": "OpenAI-Organization: o\nopenai-project: p\ncontent-type: a/b; charset=c"},
]
# Below the server's own address.
PATHS = [
    "", "/", "/v1", "/v1/", "/v1//", "/a/./b/../v1", "/%7euser/v1", "/a%2Fb/v1?api-version=3&b=&a=%C3%A9&a=1+2", "/v1?",
    "/openai/deployments/d/?api-version=2024-02-01-preview", "/é/v1?q=é&[x]=%FF&=v&w", "/(a)|{b}[c]^`d`/v1;p=1?x=1;y=2",
]  # fmt: skip
EXTRAS: list[Headers] = [
    (),
    (("api-key", "az"), ("X-Team", "a b"), ("User-Agent", "mine")),
    (("Authorization", "Basic c"), ("x-stainless-lang", "rust"), ("OpenAI-Project", "theirs")),
]
LISTS: dict[str, list[Any]] = {name: [] for name in ("choices", "output", "data", "results")}
REPLY = json.dumps({"id": "", "object": "", "created": 0, "model": "", **LISTS}).encode()


def endpoint(url: str, *, key: str | None = "sk-test", account: bool = False, extra: Headers = ()) -> Endpoint:
    secrets = () if key is None else (key,)
    return Endpoint("p", url, key, openai_account=account, timeout_s=20.0, extra_headers=extra, secrets=secrets)


def of_an_endpoint(headers: list[tuple[str, str]], extra: Headers) -> list[tuple[str, str]]:
    """Leave out what belongs to one message or one connection, and the package's figures about itself."""
    given = {name.lower() for name, _ in extra}
    return [
        (name, value)
        for name, value in headers
        if name not in {"host", "content-length", "connection", "accept-encoding", "transfer-encoding"}
        and (name in given or not name.startswith("x-stainless-"))
    ]


class Heads:
    """A server that keeps the heads that arrive, and answers every API with nothing."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(length)
        self.heads.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\n")
        writer.write(b"content-length: %d\r\n\r\n%b" % (len(REPLY), REPLY))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def as_sent(head: bytes, root: str) -> tuple[str, list[tuple[str, str]]]:
    """Return URL and headers of a request line and its header lines."""
    line, *fields = head.decode("ascii").rstrip().split("\r\n")
    method, target, _ = line.split(" ")
    assert method == "POST"
    named = [each.partition(":") for each in fields]
    return root + target, [(name.lower(), value.strip()) for name, _, value in named]


async def arrived(cases: list[tuple[str, Endpoint, dict[str, str]]]) -> list[tuple[Endpoint, str, list[Any]]]:
    """Have the package make a call of each API to each endpoint; return what arrived of it beside what is worked out.

    The base URL of an endpoint is its path here.
    """
    server = Heads()
    found = []
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
        root = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        for api, pathed, environment in cases:
            asked = msgspec.structs.replace(pathed, base_url=root + pathed.base_url)
            with patch.dict(os.environ, environment):
                async with configured_client(asked, verify=False) as client:
                    await create(client, api, {"model": "m", CONTENT[api]: []})
                worked_out = with_head(asked, api, dict(os.environ))
            url, headers = as_sent(server.heads.pop(), root)
            found.append((worked_out, url, of_an_endpoint(headers, asked.extra_headers)))
    return found


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ACCOUNT, "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.delenv(name, raising=False)


def test_url_and_headers_are_those_that_the_package_sends_for_every_option_and_api() -> None:
    given = [
        *((api, endpoint("/v1", account=True), ACCOUNT) for api in CONTENT),
        *(("embeddings", endpoint(path), ACCOUNT) for path in PATHS),
        *(
            ("responses", endpoint("/v1", key=key, account=account, extra=extra), environment)
            for key in ("sk-test", None)
            for account in (True, False)
            for extra in EXTRAS
            for environment in ENVIRONMENTS
        ),
    ]
    for worked_out, url, headers in asyncio.run(arrived(given)):
        assert (worked_out.url, list(worked_out.headers)) == (url, headers)


class Recorder(httpx2.AsyncBaseTransport):
    """Takes the place of the network, for hosts that are nowhere."""

    request: httpx2.Request

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.request = request
        return httpx2.Response(200, content=REPLY, headers={"content-type": "application/json"})


def of_the_package(asked: Endpoint, environment: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]] | str:
    """Return URL and headers of the package's request, or what it says where it makes none."""

    async def call() -> None:
        async with configured_client(asked, transport=recorder) as client:
            await create(client, "moderations", {"model": "m", "input": []})

    recorder = Recorder()
    try:
        with patch.dict(os.environ, environment):
            asyncio.run(call())
    except Exception as error:  # noqa: BLE001 - whatever it is
        return f"{type(error).__name__}: {error}"
    return str(recorder.request.url), of_an_endpoint(recorder.request.headers.multi_items(), asked.extra_headers)


def worked_out(asked: Endpoint, environment: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]] | str:
    try:
        head = with_head(asked, "moderations", environment)
    except ConfigError as error:
        return str(error).removeprefix("the openai package refuses the settings of provider 'p': ")
    return head.url, list(head.headers)


HOSTS = st.one_of(
    st.sampled_from([
        "localhost", "127.0.0.1", "[::1]", "[0:0::1]", "EXAMPLE.com", "a_b.example.com.", "1.2.3.256", "01.2.3.4",
        "1.2.3", "1.2.3.4.5", "bücher.example", "xn--bcher-kva.example", "-a-.b", "a..b", "ex%41mple.com", "1a.2b",
        "b|c", "\uff41.com",
    ]),
    st.text("ab.1-_:[]@%é", min_size=1, max_size=8),
    st.lists(st.integers(0, 300), min_size=4, max_size=4).map(lambda each: ".".join(map(str, each))),
)  # fmt: skip
PORTS = st.one_of(st.just(""), st.sampled_from([":80", ":443", ":8000", ":080", ":800", ":4430", ":65535", ":"]))
SEGMENTS = st.one_of(
    st.sampled_from(
        ["", "v1", ".", "..", "...", "%2f", "%2", "%", "a b", "\\", "@", ":", "é", "{x}", "\x01", "\x7f", "//"]
    ),
    st.text("".join(map(chr, range(0x21, 0x7F))), max_size=6),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
)
QUERIES = st.one_of(
    st.just(""),
    st.sampled_from(["?", "?a=b", "?a=1&a=2", "?&&", "?=b", "?a", "?a=%zz", "?a=%FF", "?a=b?c", "?a;b=1", "?a=é+ü%20"]),
    st.text("ab=&;+%2F[]?/é ", max_size=12).map("?".__add__),
)
URLS = st.builds(
    lambda scheme, host, port, segments, end, query: f"{scheme}://{host}{port}{''.join(segments)}{end}{query}",
    st.sampled_from(["http", "https"]),
    HOSTS,
    PORTS,
    st.lists(SEGMENTS.map("/".__add__), max_size=4),
    st.sampled_from(["", "/"]),
    QUERIES,
)


def can_be_configured(url: str) -> bool:
    _, _, rest = url.partition("//")
    return has_host_and_port(url) and not any(each.isspace() or each == "#" for each in url) and "@" not in rest


@settings(max_examples=200, deadline=None)
@given(URLS.filter(can_be_configured))
@example(f"http://a/{'b' * 70_000}")
@example(f"http://a/?q={'b' * 70_000}")
@example(f"http://a/?q={'𝄞' * 4_995}")
@example(f"http://{'a' * 4_000}/{'é' * 3_000}")
def test_every_base_url_is_taken_or_refused_as_by_the_package(url: str) -> None:
    asked = endpoint(url.replace("https:", "http:") if ":443" not in url else url)
    assert worked_out(asked, {}) == of_the_package(asked, {})


TEXTS = st.text(st.characters(codec="latin-1", exclude_characters="\0"), max_size=12)
NAMES = st.one_of(
    st.sampled_from([
        "X-A", "x-a", "Authorization", "AUTHORIZATION", "accept", "Accept", "User-Agent", "OpenAI-Organization",
        "openai-project", "Host", "Connection", "X-Stainless-Lang", "Transfer-Encoding", "content-length",
    ]),
    TEXTS,
)  # fmt: skip
CUSTOM = st.lists(st.builds(lambda name, value: f"{name}:{value}", NAMES, TEXTS) | TEXTS, max_size=5).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(
    st.fixed_dictionaries(
        {}, optional={"OPENAI_CUSTOM_HEADERS": CUSTOM, "OPENAI_ORG_ID": TEXTS, "OPENAI_PROJECT_ID": TEXTS}
    ),
    st.none() | st.text("sk-1", min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(EXTRAS),
)
def test_every_account_of_the_environment_is_taken_or_refused_as_by_the_package(
    environment: dict[str, str],
    key: str | None,
    account: bool,
    extra: Headers,
) -> None:
    asked = endpoint("http://127.0.0.1:1/v1", key=key, account=account, extra=extra)
    ours, theirs = worked_out(asked, environment), of_the_package(asked, environment)
    if isinstance(ours, str) and isinstance(theirs, str):  # of several headers that cannot be sent each names one
        ours, theirs = ours.partition(":")[0], theirs.partition(":")[0]
    assert ours == theirs


def test_what_is_refused_is_told_without_the_key() -> None:
    with pytest.raises(ConfigError) as caught:
        with_head(endpoint("http://sk-secret.1.2.3\x01", key="sk-secret"), "embeddings", {})
    assert str(caught.value) == (
        "the openai package refuses the settings of provider 'p': InvalidURL: "
        "Invalid non-printable ASCII character in URL, '\\x01' at position 22."
    )
    with pytest.raises(ConfigError, match=r"Invalid IPv6 address: '\[\[redacted\]\]'$"):
        with_head(endpoint("http://[sk-secret]/v1", key="sk-secret"), "embeddings", {})


def test_the_simulator_has_its_address_put_before_the_path_of_the_api() -> None:
    assert with_head(endpoint(SIMULATOR, key=None), "chat.completions", {}).url == f"{SIMULATOR}/chat/completions"


def test_a_package_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(
        MachineError, match=r"^the openai package cannot be started: python -c 'import openai' says why"
    ):
        with_head(endpoint("http://127.0.0.1:1/v1"), "embeddings", {})


def test_a_program_that_is_called_as_the_package_hides_it_from_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = with_head(endpoint("http://127.0.0.1:1/v1"), "embeddings", {})
    (tmp_path / "openai.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert with_head(endpoint("http://127.0.0.1:1/v1"), "embeddings", {}) == usual
