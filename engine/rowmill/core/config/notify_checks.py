"""What `[notify]` can still get wrong. No message shows a URL: one may be a secret by itself."""

import re
from collections.abc import Iterator

from rowmill.core.config.provider_checks import HEADER, has_host_and_port
from rowmill.core.config.sections import NotifyConfig

_OWN_HEADERS = frozenset({"content-length", "content-type", "host", "transfer-encoding"})


def problems(notify: NotifyConfig) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key."""
    if not notify.used and notify != NotifyConfig():
        yield "notify.command: is not there, and no notify.webhook either: nobody would be told; name one of them"
    if not notify.on:
        yield "notify.on: names nothing to be told; leave out the section to have nobody told"
    words = [notify.command] if isinstance(notify.command, str) else notify.command
    if words is not None and (not words or not words[0].strip()):
        yield "notify.command: must not be empty; leave it out to run none"
    if any("\0" in word for word in words or ()):
        yield "notify.command: must not hold a NUL character"
    if notify.webhook is not None and notify.url_env is not None:
        yield "notify.url_env: stands in the place of notify.webhook; leave out one of them"
    if notify.webhook is not None and (problem := url_problem(notify.webhook)):
        yield f"notify.webhook: {problem}"
    if notify.headers_env and notify.webhook is None and notify.url_env is None:
        yield "notify.headers_env: is of a webhook, and there is none; name it by notify.webhook or notify.url_env"
    for header, variable in notify.headers_env.items():
        if not HEADER.fullmatch(header):
            yield f"notify.headers_env: {header!r} is no name of a header"
        if header.lower() in _OWN_HEADERS:
            yield f"notify.headers_env: {header} is set by the engine itself; remove it"
        if not _is_variable(variable):
            yield f"notify.headers_env: {header}: {variable!r} is no name of an environment variable"
    if notify.url_env is not None and not _is_variable(notify.url_env):
        # What stands there may be the URL.
        yield "notify.url_env: is no name of an environment variable; put the URL into one, and its name here"
    if not 0 < notify.timeout_s <= 600:  # noqa: PLR2004 - ten minutes: a run that has ended waits so long
        yield "notify.timeout_s: must be above 0 and at most 600 seconds"
    if not 0 < notify.budget_at <= 1:
        yield "notify.budget_at: must be above 0 and at most 1, a part of a cap"


def url_problem(url: str) -> str | None:
    """Return what is wrong with the URL of a webhook, without a word of it."""
    if not re.match(r"https?://[^/?#\s]", url):
        return "must start with http:// or https:// and a host"
    if not url.isascii() or not url.isprintable() or " " in url or "#" in url:
        return "has a space, a # or what else no URL can hold; take it out"
    return None if has_host_and_port(url) else "has no usable host and port"


def _is_variable(name: str) -> bool:
    return re.fullmatch(r"[^=:/\0\s]+", name) is not None
