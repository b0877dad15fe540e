"""Providers by name: where each has its API, which variable holds its key, and what its documentation says beside that.

Each is from the page that it names, as it was on `LOOKED_UP`; docs/providers.md shows them, and a test holds the two
together. All of it is a default: what stands beside `preset` in `[[provider]]` wins. What a provider is known not to
have is told before a run and refused by nobody but the provider: pages age faster than programs.
"""

from collections.abc import Mapping
from typing import NamedTuple

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
    source: str  # the page
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


def _local(
    title: str,
    port: int,
    source: str,
    *,
    has: tuple[str, ...] = (),
    lacks: tuple[str, ...] = (),
    memory: tuple[str, ...] = (),
    tokens: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
    note: str = "",
) -> Preset:
    """Return the preset of a server on this machine."""
    return Preset(
        title=title,
        url=f"http://127.0.0.1:{port}/v1",
        key=None,
        apis=("chat.completions", "responses", "completions", "embeddings"),
        source=source,
        tokens=tokens,
        has=has,
        lacks=("batch", *lacks),
        memory=memory,
        also=also,
        note=note,
    )


PRESETS: Mapping[str, Preset] = {
    "openai": Preset(
        "OpenAI", "https://api.openai.com/v1", "OPENAI_API_KEY",
        apis=("chat.completions", "responses", "completions", "embeddings", "moderations"),
        source="https://platform.openai.com/docs/api-reference/chat/create",
        tokens=_BOTH, limits="x-ratelimit-*", has=FEATURES,
        also=("chatgpt", "gpt", "open_ai"),
        note="as no [[provider]] at all; its reasoning models refuse max_tokens",
    ),
    "azure": Preset(
        "Azure OpenAI", "https://{host}/openai/v1", "AZURE_OPENAI_API_KEY",
        apis=("chat.completions", "responses", "completions", "embeddings"),
        source="https://learn.microsoft.com/en-us/azure/foundry/openai/api-version-lifecycle",
        key_header="api-key", tokens=_BOTH, has=FEATURES, memory=FEATURES,
        also=("azure_openai", "azureopenai", "azure_ai", "foundry", "microsoft"),
        note="host is the resource's name, the model the deployment's; with api_version the API of that date, whose "
        "path names the deployment, and no batches",
        domain=".openai.azure.com", dated_path="/openai", deployed=("chat.completions", "completions", "embeddings"),
    ),
    "gemini": Preset(
        "Google Gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY",
        apis=("chat.completions", "embeddings"), source="https://ai.google.dev/gemini-api/docs/openai",
        has=("json_schema",), memory=("json_schema",),
        also=("google", "google_gemini", "googleai", "aistudio"),
    ),
    "anthropic": Preset(
        "Anthropic", "https://api.anthropic.com/v1", "ANTHROPIC_API_KEY", apis=_CHAT,
        source="https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk",
        tokens=_BOTH, lacks=FEATURES, also=("claude",),
        note="response_format, seed and logprobs are ignored, n must be 1, a temperature above 1 counts as 1",
    ),
    "openrouter": Preset(
        "OpenRouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY",
        apis=("chat.completions", "completions"), source="https://openrouter.ai/docs/api-reference/overview",
        has=("json_schema", "seed", "logprobs"), memory=("seed", "logprobs"), also=("open_router",),
        note="it is the model that has them or not; HTTP-Referer and X-OpenRouter-Title (X-Title before) in headers "
        "name your application in its rankings",
    ),
    "groq": Preset(
        "Groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY", apis=("chat.completions", "responses"),
        source="https://console.groq.com/docs/openai", limits="x-ratelimit-*",
        has=("json_schema", "seed", "batch"), memory=("json_schema", "seed", "batch"), lacks=("logprobs", "n"),
        note="logprobs, logit_bias and an n above 1 are refused, a temperature of 0 counts as 1e-8",
    ),
    "together": Preset(
        "Together AI", "https://api.together.ai/v1", "TOGETHER_API_KEY",
        apis=("chat.completions", "completions", "embeddings"),
        source="https://docs.together.ai/docs/inference/openai-compatibility",
        tokens=_ONE, has=("logprobs", "n"), lacks=("batch",), also=("together_ai", "togetherai"),
        note="logprobs is a number; batches are by an API of its own",
    ),
    "mistral": Preset(
        "Mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY",
        apis=("chat.completions", "embeddings", "moderations"),
        source="https://github.com/mistralai/client-python/blob/main/docs/models/chatcompletionrequest.md",
        tokens=_ONE, has=("json_schema",), lacks=("seed", "logprobs", "batch"), instead={"seed": "random_seed"},
        also=("mistralai", "mistral_ai"), note="batches are by an API of its own",
    ),
    "deepseek": Preset(
        "DeepSeek", "https://api.deepseek.com", "DEEPSEEK_API_KEY", apis=_CHAT, source="https://api-docs.deepseek.com/",
        tokens=_ONE, has=("logprobs",), lacks=("json_schema", "batch"), also=("deep_seek",),
        note="response_format is text or json_object; under load a reply begins with empty lines, for up to 30 minutes "
        "(timeout_s = 1800)",
    ),
    "fireworks": Preset(
        "Fireworks AI", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY",
        apis=("chat.completions", "completions"), source="https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        also=("fireworks_ai", "fireworksai"), note="models are named accounts/fireworks/models/...",
    ),
    "cerebras": Preset(
        "Cerebras", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", apis=_CHAT,
        source="https://inference-docs.cerebras.ai/resources/openai", has=("seed",), lacks=("batch",),
        note="frequency_penalty, presence_penalty, logit_bias and service_tier are refused",
    ),
    "xai": Preset(
        "xAI", "https://api.x.ai/v1", "XAI_API_KEY", apis=("responses", "chat.completions"),
        source="https://docs.x.ai/developers/model-capabilities/text/comparison", also=("grok", "x.ai", "x_ai"),
        note='chat.completions are deprecated there: task.api = "responses"',
    ),
    "perplexity": Preset(
        "Perplexity", "https://api.perplexity.ai/v1", "PERPLEXITY_API_KEY", apis=("responses",),
        source="https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/how-to", also=("pplx", "sonar"),
        note='its chat.completions ended on 2026-09-27: task.api = "responses"',
    ),
    "deepinfra": Preset(
        "DeepInfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY",
        apis=("chat.completions", "completions", "embeddings"), source="https://deepinfra.com/docs/advanced/openai_api",
        also=("deep_infra",), note="its page names no variable for the key",
    ),
    "nvidia": Preset(
        "NVIDIA NIM", "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", apis=_CHAT,
        source="https://build.nvidia.com/", also=("nim", "nvidia_nim"),
    ),
    "sambanova": Preset(
        "SambaNova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", apis=("chat.completions", "embeddings"),
        source="https://docs.sambanova.ai/docs/en/features/openai-compatibility", also=("samba_nova",),
        note="limits are of requests a minute and a day",
    ),
    "cohere": Preset(
        "Cohere", "https://api.cohere.ai/compatibility/v1", "COHERE_API_KEY", apis=("chat.completions", "embeddings"),
        source="https://docs.cohere.com/docs/compatibility-api", lacks=("json_schema",), also=("co",),
        note="a schema goes with json_object",
    ),
    "huggingface": Preset(
        "Hugging Face", "https://router.huggingface.co/v1", "HF_TOKEN", apis=("chat.completions", "responses"),
        source="https://huggingface.co/docs/inference-providers/en/index", also=("hf", "hugging_face"),
        note="a model may name who serves it: openai/gpt-oss-120b:cerebras",
    ),
    "vllm": _local(
        "vLLM", 8000, "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        has=("json_schema", "seed", "logprobs", "n"), memory=("json_schema", "seed", "logprobs", "n"),
        note="api_key_env where it was started with --api-key",
    ),
    "ollama": _local(
        "Ollama", 11434, "https://docs.ollama.com/api/openai-compatibility",
        tokens=_ONE, has=("json_schema", "seed", "logprobs"), lacks=("n",),
        note='keys are ignored; for its cloud host = "https://ollama.com" and api_key_env = "OLLAMA_API_KEY"',
    ),
    "lmstudio": _local(
        "LM Studio", 1234, "https://lmstudio.ai/docs/developer/openai-compat", has=("json_schema",),
        also=("lm_studio", "lm-studio"),
    ),
    "llamacpp": _local(
        "llama.cpp", 8080, "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        has=("json_schema", "seed", "logprobs"), memory=("json_schema", "seed", "logprobs"),
        also=("llama.cpp", "llama_cpp", "llama-server", "llama"),
        note="api_key_env where it was started with --api-key",
    ),
    "sglang": _local(
        "SGLang", 30000, "https://docs.sglang.io/docs/basic_usage/openai_api",
        has=("json_schema", "seed", "logprobs", "n"), memory=("json_schema", "seed", "logprobs", "n"),
        note="api_key_env where it was started with --api-key",
    ),
}  # fmt: skip
