"""What may stand in a label: few values, short ones, and none that a server or a row has made up without end."""

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from rowmill.core.plain_text import stripped

OTHER = "other"
_MOST_CHARACTERS = 80
_HOSTS = {
    "api.anthropic.com": "anthropic",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
}
_DOMAINS = {".openai.azure.com": "azure.ai.openai", ".aiplatform.googleapis.com": "gcp.vertex_ai"}
_OPERATIONS = {
    "chat.completions": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}


def operation(api: str) -> str:
    """Return what the conventions for generative AI call it; as it is where they have no word."""
    return _OPERATIONS.get(api, api)


def provider(name: str, base_url: str) -> str:
    """Return what the conventions call a provider; the name in the configuration where they have no word."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return name
    by_domain = (word for domain, word in _DOMAINS.items() if host.endswith(domain))
    return _HOSTS.get(host) or next(by_domain, name)


class Labels:
    """Values of one label: the first `most` of them, and "other" for all that come later.

    A value keeps its word, so that no counter ever falls.
    """

    def __init__(self, most: int, redact: Callable[[str], str], known: Iterable[str] = ()) -> None:
        """`redact`: takes secrets out. `known`: values that are there before any comes, and in any number."""
        self._redact = redact
        self._words: dict[str, str] = {}
        self._most = 0
        for value in known:
            self._words[value] = self._cleaned(value)
        self._most = len(set(self._words.values())) + most

    def __call__(self, value: str) -> str:
        """Return what stands for a value."""
        if (word := self._words.get(value)) is not None:
            return word
        if len(self._words) >= self._most:  # the rest is not even kept
            return OTHER
        word = self._words[value] = self._cleaned(value)
        return word

    def _cleaned(self, value: str) -> str:
        text = stripped(self._redact(value.encode("utf-8", "replace").decode()))
        return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
