"""Which part of the way to a server has failed, and what is told of it."""

import pytest

from rowmill.core.wire import Endpoint, Failure, Part, Reply
from rowmill.transport import dead_ends, faults


@pytest.mark.parametrize(
    ("causes", "url", "connected", "part"),
    [
        (["u", "tcp connect error", "Connection refused (os error 111)"], "http", False, "connection"),
        (["u", "tcp connect error", "No route to host (os error 113)"], "https", False, "connection"),
        (["u", "client error (Connect)", "dns error", "failed to lookup address information"], "https", False, "name"),
        (["ConnectError", "[Errno -3] Temporary failure in name resolution"], "https", False, "name"),
        (["u", "client error (Connect)", "invalid peer certificate: UnknownIssuer"], "https", False, "tls"),
        (["ConnectError", "[SSL: WRONG_VERSION_NUMBER] wrong version number"], "https", False, "tls"),
        (["u", "client error (Connect)", "Connection reset by peer (os error 104)"], "https", False, "tls"),
        (["u", "tunnel error: failed to create underlying connection", "tcp connect error"], "https", False, "proxy"),
        (["ProxyError", "407 Proxy Authentication Required"], "https", False, "proxy"),
        (["u", "client error (SendRequest)", "invalid HTTP version parsed"], "http", True, "http"),
        (["u", "client error (SendRequest)", "connection closed before message completed"], "http", True, "http"),
    ],
)  # fmt: skip
def test_the_part_is_told_by_the_words_of_both_clients(
    causes: list[str], url: str, connected: bool, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert dead_ends.part_of(causes, f"{url}://api.example/v1", connected=connected) == part


def test_a_refused_connection_by_way_of_a_proxy_names_the_proxy_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "http://me:pass@proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    url = "https://api.example/v1/chat/completions"
    assert dead_ends.part_of(["ConnectError", "Connection refused"], url, connected=False) == "proxy"
    failure = Failure(fault=faults.CONNECTION, message="connection failed: Connection refused", part="proxy")
    assert "Is the proxy proxy.example:3128 of the environment right" in dead_ends.told(failure, url)


def test_the_url_is_shown_without_user_password_and_query() -> None:
    endpoint = Endpoint("p", "https://me:pass@h.example:8/v1/?key=abc", None, openai_account=False, timeout_s=1.0)
    assert dead_ends.url_of(endpoint, "chat.completions") == "https://h.example:8/v1/chat/completions"


def test_https_is_asked_for_where_a_page_says_so() -> None:
    assert dead_ends.wants_https(b"<html>The plain HTTP request was sent to HTTPS port</html>")
    assert dead_ends.wants_https(b"Client sent an HTTP request to an HTTPS server.")
    assert not dead_ends.wants_https(b"<html>Bad request</html>")


@pytest.mark.parametrize(
    ("status", "base", "advice"),
    [
        (404, "", "The path of base_url should end in /v1"),
        (404, "/v1/chat/completions", "must not end in /chat/completions"),
        (404, "/v1/v1", "stands twice"),
        (404, "/v1", "task.model one that it has"),
        (401, "/v1", "Is the key right"),
        (511, "/v1", "Is the key right"),
    ],
)
def test_what_to_change_is_told_by_the_status_and_the_path(status: int, base: str, advice: str) -> None:
    failure = faults.classify(Reply(status, b"", lambda _: None))
    assert failure is not None
    assert advice in dead_ends.told(failure, f"https://api.example{base}/chat/completions")


@pytest.mark.parametrize(
    ("status", "scheme", "advice"),
    [
        (407, "http", "The proxy proxy.example:3128 wants a login"),
        (403, "http", "Or was it the proxy proxy.example:3128"),
        (
            503,
            "http",
            "Something in front of the server speaks for it: is the server itself running? Or was it the proxy",
        ),
        (403, "https", "Are host and path of base_url those of the API"),
    ],
)
def test_a_proxy_that_speaks_for_the_server_is_named(
    status: int, scheme: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://me:hunter2@proxy.example:3128")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "direct.example")
    failure = faults.classify(Reply(status, b"<html>no</html>", lambda _: None))
    assert failure is not None
    told = dead_ends.told(failure, f"{scheme}://api.example/v1/chat/completions")
    assert advice in told, told
    assert ("proxy" in told) == (scheme == "http"), "no proxy can speak for who speaks TLS"
    assert "hunter2" not in told
    if status != 407:
        assert "proxy" not in dead_ends.told(failure, "http://direct.example/v1/chat/completions")
    assert "the proxy proxy.example:3128" in dead_ends.silent(f"{scheme}://api.example/v1", 8.0, 600.0)


@pytest.mark.parametrize(
    ("words", "part", "advice"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired", "tls", "clock wrong"),
        ("certificate verify failed: certificate is not yet valid", "tls", "clock wrong"),
        ("certificate verify failed: unable to get local issuer certificate", "tls", "authority between"),
        ("certificate verify failed: self-signed certificate in certificate chain", "tls", "ca_file"),
        ("certificate is not valid for 'api.example'", "tls", "the one in its certificate"),
        ("[SSL] tlsv1 alert no application protocol", "tls", "HTTP/1.1"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "tls", "cert_file names it"),
        ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", "tls", "1.2 or 1.3"),
        ("[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol", "tls", "1.2 or 1.3"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "tls", "http:// instead of https://"),
        ("[Errno 104] Connection reset by peer", "http", "want to see a certificate (cert_file)"),
        ("the server speaks HTTP/2 alone", "http", "set to speak HTTP/1.1"),
    ],
)
def test_what_is_wrong_with_a_connection_is_told_with_what_to_do(words: str, part: Part, advice: str) -> None:
    failure = Failure(fault=faults.CONNECTION, message=f"connection failed: {words} (_ssl.c:1006)", part=part)
    assert advice in dead_ends.told(failure, "https://api.example/v1/chat/completions")


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        (b"400 The plain HTTP request was sent to HTTPS port", "https:// instead of http://"),
        (b'{"error":{"message":"Invalid model name passed in model=m"}}', "Is task.model (or the provider's model)"),
    ],
)
def test_a_400_that_is_of_all_rows_has_its_own_advice(body: bytes, advice: str) -> None:
    failure = faults.classify(Reply(400, body, lambda _: None))
    assert failure is not None
    assert advice in dead_ends.told(failure, "http://api.example/v1/chat/completions")
