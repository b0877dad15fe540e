"""What stands before the body of every request, URL and headers, as the openai package would send it.

Worked out, and not asked of the package: to import it takes longer than all else that a small run does. Tests hold it
equal, byte by byte, to what the installed package sends.
"""

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, urlencode

import msgspec

from rowmill.core.config import SIMULATOR
from rowmill.core.errors import ConfigError, MachineError
from rowmill.core.wire import Endpoint

# Belong to one message or one connection, not to the endpoint: the transport makes its own.
_PER_MESSAGE = frozenset({"host", "content-length", "connection", "accept-encoding", "transfer-encoding"})
_TELEMETRY = "x-stainless-"  # the package's figures about itself; untrue of a request that it does not send
# What the package leaves as it is: nothing to be escaped, lowered, left out or refused. The simulator's address is put
# in its place once that is up.
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_PLAIN = re.compile(
    rf"{SIMULATOR}|"
    rf"https?://(?:{_OCTET}(?:\.{_OCTET}){{3}}|(?:[a-z0-9_-]+\.)*[a-z][a-z0-9_-]*)"
    r"(?::(?!(?:80|443)(?!\d))[1-9]\d{0,4})?"
    r"(?:/(?!\.\.?(?:/|$))(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*",
    re.ASCII,
)
_LONG = 5_000  # characters: the package refuses 65,537, and to escape one can make twelve of it


def with_head(endpoint: Endpoint, api: str, environ: Mapping[str, str]) -> Endpoint:
    """Return the endpoint with the `url` and `headers` of all requests to this API.

    environ: the environment, whose account settings are for OpenAI's own server alone.
    Raises `ConfigError` where the openai package would refuse the endpoint, `MachineError` where it is not installed.
    """
    agent = f"AsyncOpenAI/Python {_version()}"
    try:
        url = _url(endpoint.base_url, api.replace(".", "/"))
        headers = _headers(endpoint, agent, environ if endpoint.openai_account else {})
    except Exception as error:  # noqa: BLE001 - whatever the package does not like goes to the user as its words
        from rowmill.transport import faults

        words = faults.redacted(f"{type(error).__name__}: {error}", endpoint.secrets)
        raise ConfigError(
            f"the openai package refuses the settings of provider {endpoint.provider!r}: {words}"
        ) from None
    return msgspec.structs.replace(endpoint, url=url, headers=headers)


def _version() -> str:
    """Return the openai package's version: as it reads it itself, for the package's metadata take 20 ms to look up.

    A program of the user's may be called openai.py, and stand before it.
    """
    for folder in sys.path:
        with suppress(OSError):
            text = Path(folder, "openai", "_version.py").read_text(encoding="utf-8")
            if (found := re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)) is not None:
                return found[1]
    from importlib import metadata

    try:
        return metadata.version("openai")
    except metadata.PackageNotFoundError:
        raise MachineError("the openai package cannot be started: python -c 'import openai' says why") from None


def _url(base_url: str, path: str) -> str:
    """Return where requests go: the path below the base URL, before its query."""
    base, _, query = base_url.partition("?")
    query = urlencode(dict(parse_qsl(query, keep_blank_values=True)))  # of two with one name the last one
    if len(base_url) > _LONG or not _PLAIN.fullmatch(base):
        return _normalized(base, path, query)
    return f"{base}{'' if base.endswith('/') else '/'}{path}{'?' if query else ''}{query}"


def _normalized(base: str, path: str, query: str) -> str:
    """Return the same of any base URL, by the package's own library: slower, for that is to be imported."""
    import httpx2

    url = httpx2.URL(base)
    folder = url.raw_path if url.raw_path.endswith(b"/") else url.raw_path + b"/"
    joined = str(url.copy_with(raw_path=folder + path.encode()))
    return str(httpx2.URL(joined, params=query) if query else httpx2.URL(joined))


def _headers(endpoint: Endpoint, agent: str, account: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    lines = (line.partition(":") for line in account.get("OPENAI_CUSTOM_HEADERS", "").split("\n"))
    custom = {name.strip(): text.strip() for name, colon, text in lines if colon}
    given: dict[str, str | None] = {
        "Authorization": f"Bearer {endpoint.key}",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": agent,
        **custom,
    }
    given |= {
        "OpenAI-Organization": account.get("OPENAI_ORG_ID"),
        "OpenAI-Project": account.get("OPENAI_PROJECT_ID"),
        **custom,  # once more, as the package has them: their place is the first one, their value counts as the last
    }
    headers: dict[str, tuple[str, str]] = {}
    for name, said in given.items():  # of two names that differ by their case the later one counts
        if said is None:
            headers.pop(name.lower(), None)
        else:
            headers[name.lower()] = (name, said)
    for name, text in (*headers.values(), *endpoint.extra_headers):
        name.encode("ascii")
        text.encode("ascii")
    if endpoint.key is None:
        headers.pop("authorization", None)
    own = {name.lower() for name, _ in endpoint.extra_headers}
    kept = [
        (name, text)
        for name, (_, text) in headers.items()
        if name not in own and name not in _PER_MESSAGE and not name.startswith(_TELEMETRY)
    ]
    return (*kept, *((name.lower(), text) for name, text in endpoint.extra_headers))
