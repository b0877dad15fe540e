"""What a provider's requests carry that no configuration may hold: the values of named environment variables."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from rowmill.core.config import env_file, hidden, trust
from rowmill.core.config.sections import OPENAI_URL, Config, MetricsConfig, ProviderConfig
from rowmill.core.errors import ConfigError
from rowmill.core.wire import Endpoint

_LIKE_A_KEY = re.compile(r"key|token|secret|passw|auth|sig|credential", re.IGNORECASE)
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_SHORTEST = 6  # characters of what is like a key: to take out shorter ones would spoil every message


def api_key(provider: ProviderConfig, environ: Mapping[str, str]) -> str | None:
    """Return the provider's API key, or None where none is to be sent.

    A key goes only to the server that it is meant for: OpenAI's own URL reads OPENAI_API_KEY, every other
    server gets a key only where `api_key_env` names it. An authorization header of `headers_env` stands for the key.
    Raises `ConfigError` where a named key is not set.
    """
    name = key_variable(provider)
    return None if name is None else _value(provider, environ, name)


def key_variable(provider: ProviderConfig) -> str | None:
    """Return the environment variable with the provider's key; None where no key is to be sent."""
    if provider.api_key_env is not None:
        return provider.api_key_env
    own = provider.base_url.rstrip("/") == OPENAI_URL
    by_header = any(header.lower() == "authorization" for header in provider.headers_env)
    return "OPENAI_API_KEY" if own and not by_header else None


def environment(config: Config, environ: Mapping[str, str], folder: Path) -> Mapping[str, str]:
    """Return the environment, with what `.env` of the configuration's folder has of the variables that this names.

    Raises `ConfigError` for a file that is needed and cannot be used.
    """
    return env_file.completed(environ, _variables(config), folder)


def _variables(config: Config) -> Iterator[str]:
    """Yield the environment variables that a configuration names."""
    for provider in config.provider:
        if (name := key_variable(provider)) is not None:
            yield name
        yield from provider.headers_env.values()
    if config.notify.url_env is not None:
        yield config.notify.url_env
    yield from config.notify.headers_env.values()
    yield from config.metrics.headers_env.values()


def extra_headers(provider: ProviderConfig, environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the headers that the provider's configuration adds, those of `headers_env` with their values.

    Raises `ConfigError` where a named variable is not set, or holds what no header can carry.
    """
    return (*provider.headers.items(), *_secret_headers(provider, environ))


def secrets(provider: ProviderConfig, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return everything that no message may show: the key, the values of `headers_env`, and what else is like a key.

    Of an authorization also what stands behind its scheme: servers echo the token without it. Like a key are values of
    `headers` and of the URL's query whose names say so, and the password of a proxy of the environment.
    """
    found = [api_key(provider, environ)]
    for header, value in _secret_headers(provider, environ):
        found.append(value)
        if header.lower() == "authorization":
            found.append(value.rpartition(" ")[2])
    named = [*provider.headers.items(), *parse_qsl(urlsplit(provider.base_url).query)]
    like_keys = [value for name, value in named if _LIKE_A_KEY.search(name)]
    found += [each for value in like_keys for each in (value, value.rpartition(" ")[2]) if len(each) >= _SHORTEST]
    found += [_password(environ.get(each, "")) for name in _PROXIES for each in (name, name.lower())]
    known = dict.fromkeys(secret for secret in found if secret)
    return tuple(sorted(known, key=len, reverse=True))  # the whole before what is a part of it


def _password(url: str) -> str | None:
    """Return the password in a URL, None where there is none that could be told from a word."""
    try:
        password = unquote(urlsplit(url).password or "")
    except ValueError:  # no URL
        return None
    return password if len(password) >= _SHORTEST else None


def _secret_headers(provider: ProviderConfig, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(header, _value(provider, environ, name, header)) for header, name in provider.headers_env.items()]


def metrics_headers(metrics: MetricsConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that metrics are pushed with. Raises `ConfigError` as `extra_headers` does."""
    return {
        header: _read(environ, name, "metrics", "another one by metrics.headers_env", header)
        for header, name in metrics.headers_env.items()
    }


def _value(provider: ProviderConfig, environ: Mapping[str, str], name: str, header: str | None = None) -> str:
    """Return what a variable holds: the value of a header, or the key."""
    setting = "api_key_env" if header is None else "headers_env"
    return _read(environ, name, f"provider {provider.name!r}", f"another one by provider.{setting}", header)


def _read(environ: Mapping[str, str], name: str, whose: str, instead: str, header: str | None) -> str:
    value = environ.get(name, "").strip()
    if not value:
        what = "API key" if header is None else f"value for the header {header}"
        raise ConfigError(f"{whose}: no {what}: {env_file.advice(environ, name)}, or name {instead}")
    if not value.isascii() or not value.isprintable():
        what = "key" if header is None else "value"
        raise ConfigError(
            f"{whose}: the {what} in {env_file.source(environ, name)} has characters that no HTTP header can carry"
        )
    return value


def endpoint(provider: ProviderConfig, environ: Mapping[str, str], ca_file: str | None = None) -> Endpoint:
    """Return where a provider's requests go and what they carry. Raises as the others do.

    ca_file: of `[client]`, where the provider names none. Raises `ConfigError` also where that is of no use.
    """
    ca = identity = ""
    if provider.base_url.lower().startswith("https:"):
        trust.check_environment(environ)
        if provider.ca_file is not None:
            ca = trust.trusted(f"provider {provider.name!r}: provider.ca_file", provider.ca_file)
        elif ca_file is not None:
            ca = trust.trusted("client.ca_file", ca_file)
        if provider.cert_file is not None:
            identity = trust.identity(f"provider {provider.name!r}", provider.cert_file, provider.key_file)
        elif provider.key_file is not None:
            raise ConfigError(f"provider {provider.name!r}: provider.key_file is the key of a cert_file: set that, too")
    return Endpoint(
        provider=provider.name,
        base_url=provider.base_url,
        key=api_key(provider, environ),
        openai_account=provider.base_url.rstrip("/") == OPENAI_URL,
        timeout_s=provider.timeout_s,
        extra_headers=extra_headers(provider, environ),
        secrets=secrets(provider, environ),
        ca=ca,
        identity=identity,
    )


def endpoints(
    providers: Sequence[ProviderConfig],
    environ: Mapping[str, str],
    ca_file: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> list[Endpoint]:
    """Return the endpoints of a run. What is a secret of one is shown of none: servers pass on to one another.

    Secrets are also what `params`, those of the requests, name like keys, and what is seen of each in base64.
    """
    each = [endpoint(provider, environ, ca_file) for provider in providers]
    found = {secret for one in each for secret in one.secrets} | set(hidden.keys_in(params or {}))
    found |= {text for secret in found for text in hidden.decoded(secret)}
    found |= set(hidden.encoded(found))
    known = tuple(sorted(found, key=lambda secret: (-len(secret), secret)))
    return [msgspec.structs.replace(one, secrets=known) for one in each]
