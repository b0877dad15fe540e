"""What a preset puts on the wire, by both transports: method, path, headers and body, as a server sees them.

The server is one on this machine, put in the place of the provider's by `host`, as a user would for a gateway.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from rowmill.core.config import Config, endpoints, parse
from rowmill.core.config.presets import PRESETS
from rowmill.core.wire import CONTENT, Reply
from rowmill.transport.request_head import with_head
from tests.transport.test_wire import KINDS, Received, Wire, bytes_then, http, opened

LISTS: dict[str, list[Any]] = {name: [] for name in ("choices", "output", "data", "results")}
ANSWER = http(
    200,
    json.dumps({"id": "", "object": "", "created": 0, "model": "", **LISTS}).encode(),
    headers="Content-Type: application/json\r\n",
)
# Where the provider's page has its API, and the variable that the key is in; nothing of it is read out of the table.
EXPECTED = {
    "openai": ("https://api.openai.com/v1/chat/completions", "OPENAI_API_KEY"),
    "azure": ("https://my-resource.openai.azure.com/openai/v1/chat/completions", "AZURE_OPENAI_API_KEY"),
    "gemini": ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "GEMINI_API_KEY"),
    "anthropic": ("https://api.anthropic.com/v1/chat/completions", "ANTHROPIC_API_KEY"),
    "openrouter": ("https://openrouter.ai/api/v1/chat/completions", "OPENROUTER_API_KEY"),
    "groq": ("https://api.groq.com/openai/v1/chat/completions", "GROQ_API_KEY"),
    "together": ("https://api.together.ai/v1/chat/completions", "TOGETHER_API_KEY"),
    "mistral": ("https://api.mistral.ai/v1/chat/completions", "MISTRAL_API_KEY"),
    "deepseek": ("https://api.deepseek.com/chat/completions", "DEEPSEEK_API_KEY"),
    "fireworks": ("https://api.fireworks.ai/inference/v1/chat/completions", "FIREWORKS_API_KEY"),
    "cerebras": ("https://api.cerebras.ai/v1/chat/completions", "CEREBRAS_API_KEY"),
    "xai": ("https://api.x.ai/v1/responses", "XAI_API_KEY"),
    "perplexity": ("https://api.perplexity.ai/v1/responses", "PERPLEXITY_API_KEY"),
    "deepinfra": ("https://api.deepinfra.com/v1/openai/chat/completions", "DEEPINFRA_API_KEY"),
    "nvidia": ("https://integrate.api.nvidia.com/v1/chat/completions", "NVIDIA_API_KEY"),
    "sambanova": ("https://api.sambanova.ai/v1/chat/completions", "SAMBANOVA_API_KEY"),
    "cohere": ("https://api.cohere.ai/compatibility/v1/chat/completions", "COHERE_API_KEY"),
    "huggingface": ("https://router.huggingface.co/v1/chat/completions", "HF_TOKEN"),
    "vllm": ("http://127.0.0.1:8000/v1/chat/completions", None),
    "ollama": ("http://127.0.0.1:11434/v1/chat/completions", None),
    "lmstudio": ("http://127.0.0.1:1234/v1/chat/completions", None),
    "llamacpp": ("http://127.0.0.1:8080/v1/chat/completions", None),
    "sglang": ("http://127.0.0.1:30000/v1/chat/completions", None),
}
KEY = "sk-of-this-provider"


def api_of(url: str) -> str:
    return "responses" if url.endswith("/responses") else "chat.completions"


def configured(api: str, table: dict[str, Any]) -> Config:
    """Return a configuration with this table of `[[provider]]`."""
    task = {"api": api, "model": "m", "prompt": "{text}"}
    sections = {"input": {"path": "rows.jsonl"}, "task": task, "output": {"path": "out.jsonl"}}
    return parse({**sections, "provider": [table]}, "c.toml")


def body_of(api: str) -> dict[str, Any]:
    content = [{"role": "user", "content": 'Say "ä"'}] if api == "chat.completions" else "Say ä"
    return {"model": "m", CONTENT[api]: content, "temperature": 0.2, "top_k": 4}


def sent(kind: str, cases: list[tuple[str, dict[str, Any], dict[str, str]]]) -> list[Received]:
    """Send a request for each API and table of `[[provider]]`, with its environment; return what arrived."""
    wire = Wire(answer=bytes_then(ANSWER, close=False))

    async def run() -> None:
        async with wire.serve():
            for api, table, environ in cases:
                here = {key: each.replace("HERE", wire.url("")) for key, each in table.items() if isinstance(each, str)}
                (endpoint,) = endpoints(configured(api, {**table, **here}).provider, environ)
                async with opened(kind, with_head(endpoint, api, environ), api=api) as transport:
                    reply = await transport.send(json.dumps(body_of(api)).encode())
                assert isinstance(reply, Reply), reply

    asyncio.run(run())
    return wire.requests


@pytest.mark.parametrize("kind", KINDS)
def test_every_preset_sends_what_its_provider_documents(kind: str) -> None:
    cases = [
        (api_of(url), {"preset": name, "host": "HERE"}, {} if variable is None else {variable: KEY})
        for name, (url, variable) in EXPECTED.items()
    ]
    assert list(EXPECTED) == list(PRESETS)
    for (api, _, _), (name, (url, variable)), arrived in zip(cases, EXPECTED.items(), sent(kind, cases), strict=True):
        assert (arrived.method, arrived.target) == ("POST", urlsplit(url).path), name
        assert json.loads(arrived.body) == body_of(api), name
        assert arrived.header("content-type") == "application/json", name
        expected: dict[str, str | None] = {"authorization": None, "api-key": None}
        if variable is not None:
            expected |= {"api-key": KEY} if name == "azure" else {"authorization": f"Bearer {KEY}"}
        assert {header: arrived.header(header) for header in expected} == expected, name


@pytest.mark.parametrize("name", EXPECTED)
def test_without_a_host_the_request_goes_to_the_provider_itself(name: str) -> None:
    url, variable = EXPECTED[name]
    api = api_of(url)
    environ = {} if variable is None else {variable: KEY}
    read = configured(api, {"preset": name, **({"host": "my-resource"} if name == "azure" else {})})
    (endpoint,) = endpoints(read.provider, environ)
    assert with_head(endpoint, api, environ).url == url
    assert (KEY in endpoint.secrets) == (variable is not None)
    assert endpoint.openai_account == (name == "openai")


CHAT = "chat.completions"
AZURE = {"preset": "azure", "host": "HERE"}
DATED = {**AZURE, "api_version": "2024-10-21"}
AZURE_KEY = {"AZURE_OPENAI_API_KEY": KEY}
API_KEY: dict[str, str | None] = {"api-key": KEY, "authorization": None}
BEARER: dict[str, str | None] = {"authorization": f"Bearer {KEY}", "api-key": None}
OF_A_DATE = "api-version=2024-10-21"
ATTRIBUTION = {"HTTP-Referer": "https://a.example", "X-OpenRouter-Title": "A"}
MORE: list[tuple[str, dict[str, Any], dict[str, str], str, dict[str, str | None]]] = [
    # the API of a date, whose path names the deployment where it is one's
    (CHAT, DATED, AZURE_KEY, f"/openai/deployments/m/chat/completions?{OF_A_DATE}", API_KEY),
    ("embeddings", DATED, AZURE_KEY, f"/openai/deployments/m/embeddings?{OF_A_DATE}", API_KEY),
    ("responses", DATED, AZURE_KEY, f"/openai/responses?{OF_A_DATE}", API_KEY),
    (
        CHAT, {**DATED, "model": "gpt-5.mini", "api_version": "2025-01-01-preview"}, AZURE_KEY,
        "/openai/deployments/gpt-5.mini/chat/completions?api-version=2025-01-01-preview", API_KEY,
    ),
    # what stands beside a preset wins
    (CHAT, {**AZURE, "api_key_env": "MINE"}, {"MINE": KEY}, "/openai/v1/chat/completions", API_KEY),
    (
        CHAT, {**AZURE, "headers_env": {"Authorization": "ENTRA"}}, {"ENTRA": "Bearer token"},
        "/openai/v1/chat/completions", {"api-key": None, "authorization": "Bearer token"},
    ),
    (
        CHAT, {"preset": "groq", "base_url": "HERE/gateway/groq?team=a"}, {"GROQ_API_KEY": KEY},
        "/gateway/groq/chat/completions?team=a", BEARER,
    ),
    (
        CHAT, {"preset": "groq", "host": "HERE", "api_key_env": ""}, {"GROQ_API_KEY": KEY},
        "/openai/v1/chat/completions", {"authorization": None},
    ),
    (CHAT, {"preset": "vllm", "host": "HERE", "api_key_env": "MINE"}, {"MINE": KEY}, "/v1/chat/completions", BEARER),
    (
        CHAT, {"preset": "openrouter", "host": "HERE", "headers": ATTRIBUTION}, {"OPENROUTER_API_KEY": KEY},
        "/api/v1/chat/completions", BEARER | {name.lower(): value for name, value in ATTRIBUTION.items()},
    ),
    # nothing of the account at OpenAI goes elsewhere
    (
        CHAT, {"preset": "openai", "host": "HERE"}, {"OPENAI_API_KEY": KEY, "OPENAI_ORG_ID": "org-1"},
        "/v1/chat/completions", BEARER | {"openai-organization": None},
    ),
    ("embeddings", {"preset": "mistral", "host": "HERE"}, {"MISTRAL_API_KEY": KEY}, "/v1/embeddings", BEARER),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_beside_a_preset_is_sent_instead(kind: str) -> None:
    for (_, table, _, target, headers), arrived in zip(MORE, sent(kind, [case[:3] for case in MORE]), strict=True):
        assert arrived.target == target, table
        assert {header: arrived.header(header) for header in headers} == headers, table
