"""What the `[[provider]]` tables can still get wrong, each by itself and all of them together."""

import re
from collections.abc import Iterator
from math import inf
from urllib.parse import urlsplit

from rowmill.core.config.sections import SIMULATOR, Config, ProviderConfig
from rowmill.core.wire import TEXTS

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110
_LIMITS = ("requests_per_minute", "tokens_per_minute", "requests_per_day", "tokens_per_day")
_HEAVIEST = 1e9  # far above any use, and a sum of such weights is still exact enough
# Made by the transport for each message or connection, or fixed by what the API speaks.
_OWN_HEADERS = frozenset({
    "accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host",
    "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def problems(config: Config) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key, and with the provider where there are several."""
    providers = config.provider
    if not providers:
        yield "provider: at least one [[provider]] is needed, or none at all for OpenAI's"
    for number, provider in enumerate(providers):
        of = f" of {provider.name!r}" if len(providers) > 1 else ""
        if any(provider.name == other.name for other in providers[:number]):
            yield f"provider.name: {provider.name!r} is the name of two; give each its own"
        for key, problem in (*_problems(provider), *_form_problems(provider, config)):
            yield f"provider.{key}{of}: {problem}"
        for key, problem in _fallback_problems(provider, {other.name for other in providers}):
            yield f"provider.{key}{of}: {problem}"
    if providers and not any(provider.weight > 0 for provider in providers):
        yield "provider.weight: is 0 everywhere, so that nobody is asked; leave it out for 1"


def _problems(provider: ProviderConfig) -> Iterator[tuple[str, str]]:
    if not _NAME.fullmatch(provider.name):
        yield "name", f"{provider.name!r} must be 1 to 64 letters, digits, '-' or '_'"
    url = provider.base_url
    if url != SIMULATOR and not re.fullmatch(r"https?://[^/?#\s][^#\s]*", url):
        begun = re.match(r"https?://[^/?#\s]", url)
        wrong = f'must start with http:// or https://, or be "{SIMULATOR}"'
        yield "base_url", f"{_shown(url)!r} {'has a space or a # in it; take it out' if begun else wrong}"
    if not has_host_and_port(url):
        yield "base_url", f"{_shown(url)!r} has no usable host and port"
    if re.match(r"https?://[^/?\s]*@", url):
        yield "base_url", "must not hold a password; name the key's variable by provider.api_key_env"
    if provider.model is not None and not provider.model.strip():
        yield "model", "must not be empty; leave it out for task.model"
    if provider.ca_file is not None and not provider.ca_file.strip():
        yield "ca_file", "must not be empty; leave it out to trust whom this machine trusts"
    if provider.cert_file is not None and not provider.cert_file.strip():
        yield "cert_file", "must not be empty; leave it out where the server wants no certificate"
    if provider.key_file is not None and not provider.key_file.strip():
        yield "key_file", "must not be empty; leave it out where the key stands in cert_file"
    if not 0 <= provider.weight <= _HEAVIEST:
        yield "weight", f"must be 0 (only as a fallback) to {_HEAVIEST:.0f}"
    for key in _LIMITS:
        value = getattr(provider, key)
        if value is not None and not 0 < value < inf:
            yield key, "must be above 0; leave it out for no limit"
    if not 0 < provider.timeout_s <= 86_400:  # noqa: PLR2004 - a day
        yield "timeout_s", "must be above 0 and at most 86400 seconds"
    yield from _header_problems(provider)


def _form_problems(provider: ProviderConfig, config: Config) -> Iterator[tuple[str, str]]:
    tasks = config.tasks
    if provider.stream is True and all(task.api not in TEXTS for task in tasks):
        yield "stream", f"replies of {tasks[0].api} are no texts, and come whole; remove it"
    if provider.schema_by != "auto" and all(task.schema is None and not task.packs for task in tasks):
        yield "schema_by", "says how task.schema is asked for, and there is none; remove it"


def _shown(url: str) -> str:
    """Return a URL that may be wrong, without what may be a password or a key."""
    scheme, slashes, rest = url.partition("//")
    place, slash, path = rest.partition("/")
    return f"{scheme}{slashes}{place.rpartition('@')[2]}{slash}{path}".partition("?")[0]


def has_host_and_port(url: str) -> bool:
    """Tell whether a URL has both, as far as they are written out."""
    try:
        parts = urlsplit(url)
        return url == SIMULATOR or (bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port that is no number, a bracket that is not closed
        return False


def _header_problems(provider: ProviderConfig) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for key, header in (
        *(("headers", name) for name in provider.headers),
        *(("headers_env", n) for n in provider.headers_env),
    ):
        name = header.lower()
        if not HEADER.fullmatch(header):
            yield key, f"{header!r} is no name of a header"
        if name in _OWN_HEADERS:
            yield key, f"{header} is set by the engine itself; remove it"
        if name in seen:
            yield key, f"{header} is there twice"
        seen.add(name)
    if "authorization" in seen and provider.api_key_env is not None:
        yield "headers_env", "authorization and provider.api_key_env both set the key; remove one"
    for header, value in provider.headers.items():
        if header.lower() == "authorization":
            yield "headers", "a key must not stand here; name its variable by provider.api_key_env or headers_env"
        if not value.isascii() or not value.isprintable() or value != value.strip():
            yield "headers", f"{value!r} has characters that no HTTP header can carry"
    for header, variable in provider.headers_env.items():
        if not re.fullmatch(r"[^=\0\s]+", variable):
            yield "headers_env", f"{header}: {variable!r} is no name of an environment variable"


def _fallback_problems(provider: ProviderConfig, names: set[str]) -> Iterator[tuple[str, str]]:
    for name in provider.fallback:
        if name == provider.name:
            yield "fallback", f"{name!r} is the provider itself"
        elif name not in names:
            yield "fallback", f"no provider is called {name!r}"
        elif provider.fallback.count(name) > 1:
            yield "fallback", f"{name!r} is there twice"
