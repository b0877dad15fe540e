"""What a preset gives a `[[provider]]`: the keys that do not stand beside it, so that all others win.

From here on the provider is one as any other; what of it is the preset's is told by comparing (`given`).
"""

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rowmill.core.config import steps
from rowmill.core.config.presets import PRESETS, Preset
from rowmill.core.config.sections import SIMULATOR, Config, ProviderConfig
from rowmill.core.errors import ConfigError

_RESOURCE = re.compile(r"[A-Za-z0-9-]+")  # a host that is a name alone
_HOST = re.compile(r"(?:https?://)?[^\s/?#\\]+/?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:-preview)?")
_BEARER = "authorization"  # whose value is the key behind a word
_LENGTHS = ("max_tokens", "max_completion_tokens")  # members that limit a reply's tokens
_LIKE = 0.6  # a name less like than this is no slip


def filled(config: Config, provider: ProviderConfig, written: Collection[str]) -> ProviderConfig:
    """Return one of the configuration's providers with what its preset gives. written: the keys that stand beside it.

    Raises `ConfigError` with the key and what is wrong, as "host: ...".
    """
    if provider.preset is None:
        for key in ("host", "api_version"):
            if key in written:
                raise ConfigError(f"{key}: goes with provider.preset; without one write the whole URL as base_url")
        return provider
    preset = named(provider.preset)
    url = _url(config, provider, preset)
    changes: dict[str, Any] = {}
    if "base_url" not in written:
        if url is None:
            raise ConfigError(f'host: is missing: at {preset.title} everybody has his own, as host = "my-resource"')
        changes["base_url"] = url
    elif "host" in written and provider.base_url != url:
        raise ConfigError("host: base_url says it, too; remove one")
    if provider.api_key_env == "":  # whoever is asked adds the key himself
        changes["api_key_env"] = None
    elif provider.base_url == SIMULATOR:
        pass
    elif (variable := provider.api_key_env or preset.key) is not None and not _has_key(provider, preset):
        if preset.key_header == _BEARER:
            changes["api_key_env"] = variable
        else:
            changes |= {"api_key_env": None, "headers_env": {preset.key_header: variable, **provider.headers_env}}
    return msgspec.structs.replace(provider, **changes)


def named(name: str) -> Preset:
    """Return the preset of that name. Raises `ConfigError` with the nearest one."""
    if (found := PRESETS.get(name)) is not None:
        return found
    plain = name.strip().lower()
    meant = {other: preset for preset, known in PRESETS.items() for other in (preset, *known.also)}
    nearest = difflib.get_close_matches(plain, meant, n=1, cutoff=_LIKE)
    hint = f'did you mean "{meant[nearest[0]]}"?' if nearest else f"there are {', '.join(PRESETS)}"
    raise ConfigError(f"preset: {name!r:.60} is none; {hint}")


def _has_key(provider: ProviderConfig, preset: Preset) -> bool:
    """Tell whether the key is given by a header that is named."""
    headers = {header.lower() for header in (*provider.headers_env, *provider.headers)}
    return not headers.isdisjoint({_BEARER, preset.key_header})


def _url(config: Config, provider: ProviderConfig, preset: Preset) -> str | None:
    """Return the base URL that the preset gives; None where everybody has his own host, and none is named."""
    place = _place(provider, preset)
    path, query = urlsplit(preset.url).path, ""
    if provider.api_version is not None:
        path, query = _dated_path(config, provider, preset), f"?api-version={provider.api_version}"
    return None if place is None else f"{place}{path}{query}"


def _place(provider: ProviderConfig, preset: Preset) -> str | None:
    """Return scheme and host of the URL; None where they are not known."""
    scheme, _, own = preset.url.partition("://")
    if (host := provider.host) is None:
        return None if "{host}" in own else f"{scheme}://{own.partition('/')[0]}"
    if "@" in host:
        raise ConfigError("host: must not hold a password; name the key's variable by api_key_env")
    if not _HOST.fullmatch(host):
        raise ConfigError(
            f"host: {host!r:.100} is no host; write it as llm.example.com or http://10.0.0.7:8000, "
            "and what has a path as base_url"
        )
    host = host.removesuffix("/")
    if _RESOURCE.fullmatch(host):
        host += preset.domain
    return host if "://" in host else f"{scheme}://{host}"


def _dated_path(config: Config, provider: ProviderConfig, preset: Preset) -> str:
    if preset.dated_path is None:
        raise ConfigError(f"api_version: {preset.title} has none; leave it out")
    if not _DATE.fullmatch(provider.api_version or ""):
        raise ConfigError(
            f"api_version: {provider.api_version!r:.60} is no date as 2024-10-21; leave it out for the API without one"
        )
    if config.task.mode != "live" and config.batch_provider is provider:
        raise ConfigError("api_version: batches need the API without one; leave it out")
    deployed = config.task.api in preset.deployed
    for number, step in enumerate(config.step):
        otherwise = deployed and step.model not in {None, config.model_of(provider)}
        otherwise |= deployed is not (step.api in preset.deployed)
        if otherwise and config.provider.index(provider) in steps.providers_of(config, number):
            raise ConfigError(
                f"api_version: the path names one deployment, and step {step.name!r} asks for another; "
                "leave it out for the API without one"
            )
    if not deployed:
        return preset.dated_path
    if (deployment := config.model_of(provider)) is None or "model" in config.task.per_row:
        raise ConfigError("api_version: the path names one deployment for all rows; name it by provider.model")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", deployment):
        raise ConfigError(f"model: {deployment!r:.60} is no name of a deployment")
    return f"{preset.dated_path}/deployments/{deployment}"


def given(config: Config, provider: ProviderConfig) -> str:
    """Name the preset of a provider, and what of that is as the preset has it; empty where it has none."""
    if (preset := PRESETS.get(provider.preset or "")) is None:
        return ""
    found = []
    if provider.base_url == _url(config, provider, preset):
        found.append(f"base_url {provider.base_url}")
    if preset.key is not None and preset.key in (provider.api_key_env, *provider.headers_env.values()):
        header = "" if preset.key_header == _BEARER else f" as {preset.key_header}"
        found.append(f"the key in {preset.key}{header}")
    return f"{provider.preset}: {', '.join(found) or 'all that it gives is written beside it'}"


def misfits(config: Config) -> Iterator[str]:
    """Yield what is asked of a provider that its documentation says it has not, a line each."""
    asked = _asked(config)
    for provider in config.provider:
        if (preset := PRESETS.get(provider.preset or "")) is None:
            continue
        about = f"provider {provider.name!r}: {preset.title}"
        if provider.base_url == SIMULATOR:  # of a recipe, say, to which a preset was added
            yield f"{about} is not asked, but the simulator, as base_url says; take that out"
            continue
        if config.task.api not in preset.apis:
            yield f"{about} is documented with {_listed(preset.apis)}, not {config.task.api} ({preset.sources[0]})"
        for feature, key in asked.items():
            if feature == "batch" and config.batch_provider is not provider:
                continue
            if (name := preset.instead.get(feature)) is not None:
                yield f"{about} calls {feature} {name} ({preset.sources[0]})"
            elif feature in preset.lacks:
                yield f"{about} is documented without {feature}, which {key} asks for ({preset.sources[0]})"
        for member in _LENGTHS:
            if preset.tokens and member not in preset.tokens and member in config.task.params:
                yield f"{about} limits replies by {preset.tokens[0]}, not {member} ({preset.sources[0]})"


def _asked(config: Config) -> dict[str, str]:
    """Return the features that the configuration asks for, each with the key that does."""
    params = config.task.params
    found = {name: f"task.params.{name}" for name in ("seed", "logprobs") if params.get(name) not in (None, False)}
    if params.get("n") not in (None, 1):
        found["n"] = "task.params.n"
    if config.task.schema is not None:
        found["json_schema"] = "task.schema"
    if config.task.mode != "live":
        found["batch"] = "task.mode"
    return found


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]
