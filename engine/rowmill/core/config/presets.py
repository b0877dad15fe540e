"""Providers by name: where each has its API, which variable holds its key, and what else its documentation says.

Each is from the pages that it names, as they were on `LOOKED_UP`; docs/providers.md shows them, and a test holds the
two together. All of it is a default: what stands beside `preset` in `[[provider]]` wins. What a provider is known not
to have is told before a run and refused by nobody but the provider: pages age faster than programs.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

LOOKED_UP = "2026-11-29"
# What is looked at, of requests and of the API: a provider has it, lacks it, or its pages do not say.
FEATURES = ("json_schema", "seed", "logprobs", "n", "batch")
_CHAT = ("chat.completions",)
_BOTH = ("max_completion_tokens", "max_tokens")
_ONE = ("max_tokens",)


class Preset(NamedTuple):
    """What is known of one provider."""

    title: str  # as people call it
    url: str  # the API's own; "{host}" where every customer has an address of his own
    key: str | None  # the environment variable with its key; None: of this machine, without one
    apis: tuple[str, ...]  # those that its pages have
    sources: tuple[str, ...]  # the pages, its own first
    key_header: str = "authorization"  # what carries the key: an authorization as a bearer's
    tokens: tuple[str, ...] = ()  # the members that limit a reply's tokens, the preferred one first
    limits: str = "?"  # headers of its replies that tell its limits: "x-ratelimit-*", "none"; "?": the pages do not say
    has: tuple[str, ...] = ()  # of FEATURES
    lacks: tuple[str, ...] = ()  # of FEATURES: refused, ignored, or in a form of its own
    memory: tuple[str, ...] = ()  # of `has`: from memory, for no page was found
    instead: Mapping[str, str] = {}  # member of OpenAI's requests -> what it is called there
    also: tuple[str, ...] = ()  # other names that somebody may write who means it
    note: str = ""  # what else is odd, for the page
    domain: str = ""  # behind a host that is a name alone
    dated_path: str | None = None  # in the place of the URL's, with provider.api_version
    deployed: tuple[str, ...] = ()  # APIs whose dated path names a deployment


def _local(title: str, port: int, *, lacks: tuple[str, ...] = (), **known: Any) -> Preset:
    """Return the preset of a server on this machine: without a key, without batches. known: what else a preset has."""
    apis = ("chat.completions", "responses", "completions", "embeddings")
    return Preset(title, f"http://127.0.0.1:{port}/v1", None, **{"apis": apis, "lacks": ("batch", *lacks), **known})


PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        "OpenAI", "https://api.openai.com/v1", "OPENAI_API_KEY",
        apis=("chat.completions", "responses", "completions", "embeddings", "moderations"), tokens=_BOTH,
        limits="x-ratelimit-*", has=FEATURES, also=("chatgpt", "gpt", "open_ai"),
        sources=(
            "https://platform.openai.com/docs/api-reference/chat/create",
            "https://github.com/openai/openai-python/blob/main/src/openai/types/chat/completion_create_params.py",
        ),
        note="as no [[provider]] at all; its reasoning models refuse max_tokens",
    ),
    "azure": Preset(
        "Azure OpenAI", "https://{host}/openai/v1", "AZURE_OPENAI_API_KEY",
        apis=("chat.completions", "responses", "completions", "embeddings"), key_header="api-key", tokens=_BOTH,
        has=FEATURES, memory=FEATURES, also=("azure_openai", "azureopenai", "azure_ai", "foundry", "microsoft"),
        domain=".openai.azure.com", dated_path="/openai", deployed=("chat.completions", "completions", "embeddings"),
        sources=(
            "https://learn.microsoft.com/en-us/azure/foundry/openai/api-version-lifecycle",
            "https://github.com/openai/openai-python/blob/main/src/openai/lib/azure.py",
        ),
        note="host is the resource's name, the model the deployment's; with api_version the API of that date, "
        "whose path names the deployment, and no batches",
    ),
    "gemini": Preset(
        "Google Gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY",
        apis=("chat.completions", "embeddings"), has=("json_schema",), memory=("json_schema",),
        also=("google", "google_gemini", "googleai", "aistudio"),
        sources=("https://ai.google.dev/gemini-api/docs/openai",),
    ),
    "anthropic": Preset(
        "Anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", apis=_CHAT, tokens=_BOTH, lacks=FEATURES,
        also=("claude",),
        sources=("https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk",),
        note="response_format, seed and logprobs are ignored, n must be 1, a temperature above 1 counts as 1",
    ),
    "openrouter": Preset(
        "OpenRouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", apis=("chat.completions", "completions"),
        has=("json_schema", "seed", "logprobs"), memory=("seed", "logprobs"), also=("open_router",),
        sources=("https://openrouter.ai/docs/api-reference/overview", "https://openrouter.ai/docs/app-attribution"),
        note="it is the model that has them or not; HTTP-Referer and X-OpenRouter-Title (X-Title before) in "
        "headers name your application in its rankings",
    ),
    "groq": Preset(
        "Groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY",
        apis=("chat.completions", "responses", "embeddings"), limits="x-ratelimit-*",
        has=("json_schema", "seed", "batch"), memory=("json_schema",), lacks=("logprobs", "n"),
        sources=(
            "https://console.groq.com/docs/openai",
            "https://github.com/groq/groq-python/tree/main/src/groq/resources",
        ),
        note="logprobs, logit_bias and an n above 1 are refused, a temperature of 0 counts as 1e-8",
    ),
    "together": Preset(
        "Together AI", "https://api.together.ai/v1", "TOGETHER_API_KEY",
        apis=("chat.completions", "completions", "embeddings"), tokens=_ONE, has=("logprobs", "n"), lacks=("batch",),
        also=("together_ai", "togetherai"),
        sources=(
            "https://docs.together.ai/docs/inference/openai-compatibility",
            "https://github.com/togethercomputer/together-py/blob/main/src/together/types/chat/completion_create_params.py",
        ),
        note="logprobs is a number; batches are by an API of its own",
    ),
    "mistral": Preset(
        "Mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY",
        apis=("chat.completions", "embeddings", "moderations"), tokens=_ONE, has=("json_schema",),
        lacks=("seed", "logprobs", "batch"), instead={"seed": "random_seed"}, also=("mistralai", "mistral_ai"),
        sources=("https://github.com/mistralai/client-python/blob/main/docs/models/chatcompletionrequest.md",),
        note="batches are by an API of its own",
    ),
    "deepseek": Preset(
        "DeepSeek", "https://api.deepseek.com", "DEEPSEEK_API_KEY", apis=_CHAT, tokens=_ONE, has=("logprobs",),
        lacks=("json_schema", "batch"), also=("deep_seek",),
        sources=(
            "https://api-docs.deepseek.com/",
            "https://share.apidog.com/apidoc/docs-site/747793/rate-limit-835830m0",
        ),
        note="response_format is text or json_object; under load a reply begins with empty lines, for up to 30 "
        "minutes (timeout_s = 1800)",
    ),
    "fireworks": Preset(
        "Fireworks AI", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY",
        apis=("chat.completions", "completions"), also=("fireworks_ai", "fireworksai"),
        sources=("https://docs.fireworks.ai/tools-sdks/openai-compatibility",),
        note="models are named accounts/fireworks/models/...",
    ),
    "cerebras": Preset(
        "Cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", apis=_CHAT, has=("seed",), lacks=("batch",),
        sources=(
            "https://www.developersdigest.tech/reference/api-compatibility/cerebras",
            "https://hexdocs.pm/req_llm/1.9.0/cerebras.html",
        ),
        note="frequency_penalty, presence_penalty, logit_bias and service_tier are refused",
    ),
    "xai": Preset(
        "xAI", "https://api.x.ai/v1", "XAI_API_KEY",
        apis=("responses", "chat.completions", "completions", "embeddings"), also=("grok", "x.ai", "x_ai"),
        sources=(
            "https://docs.x.ai/developers/model-capabilities/text/comparison",
            "https://docs.rs/crate/api_xai/latest/source/docs/openapi_endpoints_summary.md",
        ),
        note='chat.completions are deprecated there: task.api = "responses"',
    ),
    "perplexity": Preset(
        "Perplexity", "https://api.perplexity.ai/v1", "PERPLEXITY_API_KEY", apis=("responses",),
        also=("pplx", "sonar"),
        sources=(
            "https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/how-to",
            "https://github.com/vercel/ai/releases/tag/@ai-sdk%2Fperplexity@3.1.0",
        ),
        note='its chat.completions ended on 2026-09-27: task.api = "responses"',
    ),
    "deepinfra": Preset(
        "DeepInfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY",
        apis=("chat.completions", "completions", "embeddings"), also=("deep_infra",),
        sources=("https://deepinfra.com/docs/advanced/openai_api",),
        note="its page names no variable for the key",
    ),
    "nvidia": Preset(
        "NVIDIA NIM", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", apis=_CHAT,
        also=("nim", "nvidia_nim"),
        sources=("https://build.nvidia.com/", "https://docsearch.algolia.com/mcp/docs/website/build.nvidia.com"),
    ),
    "sambanova": Preset(
        "SambaNova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", apis=("chat.completions", "embeddings"),
        also=("samba_nova",),
        sources=(
            "https://docs.sambanova.ai/docs/en/features/openai-compatibility",
            "https://docs.pipecat.ai/server/services/llm/sambanova",
        ),
        note="limits are of requests a minute and a day",
    ),
    "cohere": Preset(
        "Cohere", "https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY",
        apis=("chat.completions", "embeddings"), lacks=("json_schema",), also=("co",),
        sources=(
            "https://docs.cohere.com/docs/compatibility-api",
            "https://kestra.io/plugins/plugin-ai/provider/io.kestra.plugin.ai.provider.cohere",
        ),
        note="a schema goes with json_object",
    ),
    "huggingface": Preset(
        "Hugging Face", "https://router.huggingface.co/v1", "HF_TOKEN", apis=("chat.completions", "responses"),
        also=("hf", "hugging_face"),
        sources=("https://huggingface.co/docs/inference-providers/en/providers/cerebras",),
        note="a model may name who serves it: openai/gpt-oss-120b:cerebras",
    ),
    "vllm": _local(
        "vLLM", 8000, tokens=_BOTH, has=("json_schema", "seed", "logprobs", "n"),
        sources=(
            "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
            "https://github.com/vllm-project/vllm/blob/main/vllm/entrypoints/openai/chat_completion/protocol.py",
        ),
        note="api_key_env where it was started with --api-key",
    ),
    "ollama": _local(
        "Ollama", 11434, tokens=_ONE, has=("json_schema", "seed", "logprobs"), lacks=("n",),
        sources=("https://docs.ollama.com/api/openai-compatibility",),
        note='keys are ignored; for its cloud host = "https://ollama.com" and api_key_env = "OLLAMA_API_KEY"',
    ),
    "lmstudio": _local(
        "LM Studio", 1234, has=("json_schema",), also=("lm_studio", "lm-studio"),
        sources=("https://lmstudio.ai/docs/api/openai-api", "https://www.lmstudio.ai/docs/developer"),
    ),
    "llamacpp": _local(
        "llama.cpp", 8080, has=("json_schema", "seed", "logprobs"), memory=("seed", "logprobs"),
        also=("llama.cpp", "llama_cpp", "llama-server", "llama"),
        sources=("https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",),
        note="api_key_env where it was started with --api-key",
    ),
    "sglang": _local(
        "SGLang", 30000, apis=("chat.completions", "completions", "embeddings"),
        has=("json_schema", "seed", "logprobs", "n"), memory=("json_schema", "logprobs"),
        sources=(
            "https://docs.sglang.io/docs/basic_usage/openai_api",
            "https://github.com/sgl-project/sglang/blob/main/docs/basic_usage/openai_api_completions.ipynb",
        ),
        note="api_key_env where it was started with --api-key",
    ),
}  # fmt: skip
