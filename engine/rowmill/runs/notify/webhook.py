"""A webhook that is told, by a POST of JSON. Its URL may be a secret: no word of it is in any message.

The body has the text twice, as `text` (Slack, Mattermost, Teams) and as `content` (Discord), and the facts beside it.
Redirects are not followed: the headers' secrets would go to a server that the user did not name.
"""

import base64
import http.client
import ssl
import threading
import time
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec

from rowmill.core.config import env_file, trust
from rowmill.core.config.notify_checks import url_problem
from rowmill.core.config.sections import Config
from rowmill.core.errors import ConfigError
from rowmill.core.version import __version__
from rowmill.runs.notify.news import News
from rowmill.transport import is_loopback

_PAUSES_S = (0.0, 0.5, 2.0)  # before each try
_AGAIN = frozenset({408, 425, 429})  # statuses after which another try may help, beside those from 500 on
_SERVER_ERROR = 500


class Hook:
    """Posts to it."""

    name = "webhook"

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        """Take its URL and headers from the configuration and the environment. Raises `ConfigError`."""
        notify = config.notify
        url = notify.webhook
        if url is None:
            assert notify.url_env is not None
            url = _variable(environ, notify.url_env, "notify.url_env")
            if problem := url_problem(url):
                raise ConfigError(f"notify.url_env: the URL in the environment variable {notify.url_env} {problem}")
        headers = {
            header: _variable(environ, name, "notify.headers_env") for header, name in notify.headers_env.items()
        }
        self.secrets = [url, *headers.values()]
        parts = urlsplit(url)
        user, at, place = parts.netloc.rpartition("@")
        if at:
            headers.setdefault("Authorization", f"Basic {base64.b64encode(unquote(user).encode()).decode()}")
            self.secrets.append(user.partition(":")[2])
        self._url = urlunsplit(parts._replace(netloc=place))
        self._headers = {"User-Agent": f"rowmill/{__version__}", **headers, "Content-Type": "application/json"}
        self._timeout_s = notify.timeout_s
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if parts.scheme.lower() == "https":
            trust.check_environment(environ)
            context = ssl.create_default_context()
            if config.client.ca_file is not None:
                context.load_verify_locations(cadata=trust.trusted("client.ca_file", config.client.ca_file))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        if is_loopback(self._url):  # where no proxy of the environment leads
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def tell(self, news: News, given_up: threading.Event) -> str | None:
        """Post it, and once more where that may help. Returns what went wrong, in words."""
        body = msgspec.json.encode(_body(news))
        until = time.monotonic() + self._timeout_s
        problem: str | None = None
        for pause in _PAUSES_S:
            if given_up.wait(min(pause, max(0.0, until - time.monotonic()))) or time.monotonic() >= until:
                break
            problem, again = self._post(body, until - time.monotonic())
            if not again:
                return problem
        return problem

    def _post(self, body: bytes, timeout_s: float) -> tuple[str | None, bool]:
        """Post once. Returns what went wrong, and whether another try may help."""
        request = urllib.request.Request(self._url, body, self._headers, method="POST")  # noqa: S310 - http or https
        try:
            with self._opener.open(request, timeout=timeout_s):
                return None, False
        except HTTPError as error:
            with error:
                status = error.code
            if 300 <= status < 400:  # noqa: PLR2004
                return f"answers HTTP {status} and leads elsewhere: name the URL that it leads to", False
            return f"answers HTTP {status}", status >= _SERVER_ERROR or status in _AGAIN
        except URLError as error:
            reason = error.reason
        except (OSError, http.client.HTTPException) as error:
            reason = error
        match reason:
            case ssl.SSLCertVerificationError():
                return "has a certificate that this machine does not trust, or that is another host's", False
            case ssl.SSLError():
                return "speaks no TLS that fits", True
            case TimeoutError():
                return f"has not answered within {self._timeout_s:g} s", True
            case http.client.HTTPException():
                return "does not speak HTTP, or breaks off", True
            case OSError():
                return f"cannot be reached ({reason.strerror or type(reason).__name__})", True
            case _:
                return "cannot be reached", True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _body(news: News) -> dict[str, Any]:
    text = _harmless(news.text)
    facts = msgspec.to_builtins(news)
    # Discord calls everybody whom a text names, if it is not told to leave that.
    return {**facts, "text": text, "content": text, "allowed_mentions": {"parse": []}}


def _harmless(text: str) -> str:
    """Return a text that calls nobody: a server's own words are in it, and `<!channel>` wakes a whole Slack."""
    return text.replace("<", "‹").replace(">", "›").replace("@", "@\u200b")  # noqa: RUF001 - not these marks, but alike


def _variable(environ: Mapping[str, str], name: str, key: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"{key}: {env_file.advice(environ, name)}, or name another one")
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"{key}: what is in {name} has characters that no HTTP request can carry")
    return value
