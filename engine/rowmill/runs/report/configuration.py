"""The configuration of a run, as a report may show it to anybody: without secrets, and without what nobody has set."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.hidden import like_a_key
from rowmill.runs.report.texts import told

_HIDDEN = "(hidden)"
_LONGEST = 400  # characters of a value
# What may hold a secret under whatever name: headers, the environment of a cluster's actors, what a hook is sent.
_OPAQUE = ("headers", "headers_env", "runtime_env", "notify")


def shown_configuration(config: Config | None, fingerprint: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield keys with their values as text. Without the configuration: what the run's manifest has of it."""
    if config is None:
        for key, value in fingerprint.items():
            if value not in (None, [], {}):
                yield key, told(without_secrets(value, key.rpartition(".")[2]), _LONGEST)
        return
    for section in config.__struct_fields__:
        yield from _shown(section, getattr(config, section))


def _shown(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, msgspec.Struct) and value.__struct_config__.array_like is False:
        for field in msgspec.structs.fields(value):
            own = getattr(value, field.name)
            if own != _default(field):
                yield from _shown(f"{name}.{field.encode_name}", own)
    elif isinstance(value, list) and value and all(isinstance(each, msgspec.Struct) for each in value):
        for place, each in enumerate(value):
            yield from _shown(f"{name}[{place}]" if len(value) > 1 else name, each)
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _shown(f"{name}.{key}", each)
    else:
        yield name, told(_safe(name, value), _LONGEST)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else msgspec.NODEFAULT


def _safe(key: str, value: Any) -> Any:
    parts = key.split(".")
    if any(part in _OPAQUE or like_a_key(part) for part in parts[1:]) or parts[0] in _OPAQUE:
        return _HIDDEN
    return without_secrets(value, parts[-1])


def without_secrets(value: Any, name: str) -> Any:
    """Return a value without what is named like a key in it, and URLs without credentials, queries and fragments."""
    if isinstance(value, str):
        if like_a_key(name):
            return _HIDDEN
        return bare_url(value) if not any(space in value for space in " \n\t") else value
    if isinstance(value, Mapping):
        return {str(key): without_secrets(each, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(each, name) for each in value]
    if isinstance(value, msgspec.Struct):
        return without_secrets(msgspec.to_builtins(value), name)
    return value


def bare_url(url: str) -> str:
    """Return a URL as it may be shown, and what is none as it is."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:  # no URL that anybody could use
        return _HIDDEN
    return f"{parts.scheme}://{host}{parts.path}"
