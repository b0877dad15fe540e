"""What is wrong with the way to a server that has never answered, and what to change: in words, for whoever set it up.

A server that has answered once is on the right address, and what then goes wrong there is its health. One that never
has is most often not there at all, or something else is: a wrong port, a name that is not known, http for https, a
page to log in. That is told in seconds, by the part of the way that failed.
"""

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from rowmill.core.wire import Endpoint, Failure, Part
from rowmill.transport import refusals
from rowmill.transport.http1.proxies import proxy_for

# The words of two HTTP clients, of OpenSSL and of rustls, in the order in which they decide.
_WORDS: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("proxy", re.compile("tunnel|proxy", re.IGNORECASE)),
    ("name", re.compile("dns error|name or service|name resolution|getaddrinfo|nodename|no address", re.IGNORECASE)),
    ("tls", re.compile("certificate|ssl|tls|corrupt message|handshake|alert", re.IGNORECASE)),
    ("http", re.compile("invalid http|illegal|parse|header|protocol", re.IGNORECASE)),
)
_NO_TLS = re.compile("corrupt message|wrong.version|record layer|packet length|http request", re.IGNORECASE)
_CUT_OFF = re.compile("closed|disconnect|reset|eof|broken pipe|incomplete", re.IGNORECASE)
# What is wrong with a server's TLS, by OpenSSL's words for it, and what to do.
_OF_TLS = {
    "expired|not yet valid": "Has the server's certificate to be renewed, or is this machine's clock wrong?",
    "certificate.required": "The server wants to see a certificate of this side: cert_file names it.",
    "local issuer|self.signed|verify the first|unknownissuer": (
        "Nobody whom this machine trusts vouches for the server: ca_file or SSL_CERT_FILE names your own authority. "
        "Or does the server leave out the certificate of the authority between?"
    ),
    "application.protocol": "The server speaks HTTP/2 alone there: it must be set to speak HTTP/1.1, too.",
    "alert|version|cipher|unsupported.protocol|key too small": (
        "The server and this machine find no way of TLS that both take: does it speak 1.2 or 1.3, or want to see a "
        "certificate (cert_file)?"
    ),
}
_BAD_REQUEST = 400
_PROXY_LOGIN = 407
_INTERNAL = 500
_APIS = ("/chat/completions", "/responses", "/completions", "/embeddings", "/moderations", "/files")
_VERSION = re.compile(r"/(v[0-9]+[a-z0-9]*|openai|api)(/|$)")
_SEARCHED = 4_000  # bytes of a page
_HTTPS_WANTED = re.compile("plain http request|https port|requires? https|sent an http request", re.IGNORECASE)


def url_of(endpoint: Endpoint, api: str) -> str:
    """Return where the API's requests go, as it may be shown: without a user, a password or a query."""
    split = urlsplit(f"{endpoint.base_url.partition('?')[0].rstrip('/')}/{api.replace('.', '/')}")
    host = split.netloc.rpartition("@")[2]
    return f"{split.scheme}://{host}{split.path}"


def wants_https(body: bytes) -> bool:
    """Whether a page says that TLS is spoken where it came from."""
    return _HTTPS_WANTED.search(body[:_SEARCHED].decode(errors="replace")) is not None


def innermost(error: BaseException) -> str:
    """Return what the innermost cause says: those around it say less, or nothing at all."""
    words = str(error)
    inner: BaseException | None = error
    while inner is not None:
        words = str(inner) or words
        inner = inner.__cause__ or inner.__context__
    return words


def part_of(causes: Sequence[str], url: str, *, connected: bool) -> Part:
    """Return which part of the way to the URL's server has failed, by what the client says, the innermost last."""
    words = "; ".join(causes[1:] if len(causes) > 1 else causes)  # the first repeats the URL
    for part, pattern in _WORDS:
        if pattern.search(words):
            return part
    if connected:
        return "http"
    if url.startswith("https:") and _CUT_OFF.search(words) and "tcp connect" not in words:
        return "tls"
    return "proxy" if _proxy(url) is not None else "connection"


def told(failure: Failure, url: str) -> str:
    """Return in one line what failed on the way to the URL, and what to change."""
    split = urlsplit(url)
    said = "no answer from" if failure.status is None else "said by"
    return f"{failure.reason}: {said} {url}. {_advice(failure, split, url)}"


def _advice(failure: Failure, url: SplitResult, whole: str) -> str:
    match failure.part:
        case "name":
            return f"The name {url.hostname!r} is not known: is base_url spelt right, and is this machine online?"
        case "connection":
            return "Is the server running, and are host and port of base_url right?"
        case "proxy":
            proxy = _proxy(whole)
            named = f" {proxy}" if proxy else ""
            return f"Is the proxy{named} of the environment right (HTTPS_PROXY, HTTP_PROXY, NO_PROXY)?"
        case "tls" if _NO_TLS.search(failure.message):
            return "The server speaks no TLS there: http:// instead of https:// in base_url?"
        case "tls" if _CUT_OFF.search(failure.message) and "certif" not in failure.message.lower():
            return "The server speaks no TLS there: are host and port of base_url right, or is it http://?"
        case "tls":
            usual = "Is base_url's host the one in its certificate? ca_file or SSL_CERT_FILE names your own authority."
            found = (advice for words, advice in _OF_TLS.items() if re.search(words, failure.message, re.IGNORECASE))
            return next(found, usual)
        case "http" if _CUT_OFF.search(failure.message):
            wants = "https://" if url.scheme == "http" else "to see a certificate (cert_file)"
            return f"It closes the connection: are host and port of base_url right, or does it want {wants}?"
        case "http" if "HTTP/2" in failure.message:
            return "It must be set to speak HTTP/1.1, too."
        case "http":
            return "What is there does not speak HTTP: are host and port of base_url right?"
    if failure.status == _BAD_REQUEST and url.scheme == "http" and _HTTPS_WANTED.search(failure.message):
        return "https:// instead of http:// in base_url?"
    if refusals.names_model(failure.code, failure.message):
        return "Is task.model (or the provider's model) one that this server has, and is the key one for it?"
    advice = _of_path(failure, url)
    if url.scheme == "http" and failure.status != _PROXY_LOGIN and (proxy := _proxy(whole)):
        # It speaks for the server: of https it would only carry what nobody else can read.
        advice += f" Or was it the proxy {proxy} of the environment (HTTP_PROXY, NO_PROXY) that said so?"
    return advice


def silent(url: str, seconds: float, timeout_s: float) -> str:
    """Return what to say where a server has taken requests and said nothing for so long."""
    proxy = _proxy(url)
    through = f" through the proxy {proxy} of the environment" if proxy else ""
    return (
        f"no answer yet from {url}{through} after {seconds:.0f} s. A slow model may take longer, up to timeout_s "
        f"({timeout_s:g} s); is it an HTTP API that listens there, and are host and port of base_url right?"
    )


def _of_path(failure: Failure, url: SplitResult) -> str:
    """Return what to change where an HTTP server answers that is no such API, or refuses."""
    if failure.status == _PROXY_LOGIN:
        proxy = _proxy(f"{url.scheme}://{url.netloc}")
        named = f" {proxy}" if proxy else ""
        return f"The proxy{named} wants a login: user:password@ before its name in HTTPS_PROXY or HTTP_PROXY."
    if failure.fault.name == "auth":
        return "Is the key right (api_key_env), and is it one for this server?"
    if wrong := of_path(url.path):
        return wrong
    if failure.status == _INTERNAL:
        return "The server fails by itself: its own log says why. Is it one for this API, and for such requests?"
    if failure.fault.unhealthy and failure.status is not None and failure.status > _BAD_REQUEST:
        return "Something in front of the server speaks for it: is the server itself running?"
    if failure.fault.name == "bad_reply":
        return "What is there is no OpenAI-compatible API: are host, port and path of base_url right?"
    return "Are host and path of base_url those of the API, and task.model one that it has?"


def of_path(url: str) -> str:
    """Return what looks wrong in the path of a request's URL, and what to change; "" where nothing does."""
    path = urlsplit(url).path
    base = next((path.removesuffix(api) for api in _APIS if path.endswith(api)), path)
    if doubled := next((api for api in _APIS if base.endswith(api)), None):
        return f"base_url must not end in {doubled}: that is added to it."
    if re.search(r"(/v[0-9]+)\1(/|$)", base):
        return "The version stands twice in the path: base_url ends in one /v1."
    if not _VERSION.search(base):
        return "The path of base_url should end in /v1, as of most servers."
    return ""


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for this URL, without a password; None where it is asked directly."""
    proxy = proxy_for(url)
    return proxy and proxy.rpartition("@")[2].removeprefix("http://")
