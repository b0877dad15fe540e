"""Which proxy the environment names for a URL."""

import pytest

from rowmill.transport.http1.proxies import Proxy, parsed, proxy_for

P, Q, R = "http://p:1", "http://q:2", "socks5://r:3"


@pytest.mark.parametrize(
    ("environ", "url", "found"),
    [
        ({}, "http://a/", None),
        ({"HTTP_PROXY": P}, "http://a/", P),
        ({"HTTP_PROXY": P}, "https://a/", None),
        ({"HTTPS_PROXY": P}, "https://a/", P),
        ({"HTTPS_PROXY": P, "https_proxy": Q}, "https://a/", Q),
        ({"ALL_PROXY": R}, "https://a/", R),
        ({"all_proxy": R, "HTTP_PROXY": P}, "http://a/", P),
        ({"HTTP_PROXY": ""}, "http://a/", None),
        ({"http_proxy": "p:1"}, "http://a/", "http://p:1"),
        ({"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, "http://a/", None),
        ({"http_proxy": P, "REQUEST_METHOD": "GET"}, "http://a/", P),
        ({"HTTP_PROXY": P}, "http://localhost:8000/", None),
        ({"HTTP_PROXY": P}, "http://127.0.0.1/", None),
        ({"HTTP_PROXY": P}, "http://[::1]/", None),
    ],
)
def test_a_proxy_is_found_by_the_scheme(environ: dict[str, str], url: str, found: str | None) -> None:
    assert proxy_for(url, environ) == found


@pytest.mark.parametrize(
    ("entries", "url", "without"),
    [
        ("*", "http://a.example/", True),
        ("a.example", "http://a.example/", True),
        ("A.Example", "http://a.EXAMPLE/", True),
        ("a.example", "http://b.a.example/", True),
        (".a.example", "http://b.a.example/", True),
        ("*.a.example", "http://b.a.example/", True),
        ("a.example", "http://ba.example/", False),
        ("x, a.example ,y", "http://a.example/", True),
        ("a.example:8080", "http://a.example:8080/", True),
        ("a.example:8080", "http://a.example/", False),
        ("a.example:443", "https://a.example/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("10.1.2.3", "http://10.1.2.3:99/", True),
        ("2.3", "http://10.1.2.3/", False),
        ("fd00::/8", "http://[fd00::5]/", True),
        ("[fd00::5]", "http://[fd00::5]/", True),
        ("", "http://a.example/", False),
        (",", "http://a.example/", False),
    ],
)
def test_no_proxy_names_hosts_ports_addresses_and_networks(entries: str, url: str, without: bool) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        assert (proxy_for(url, {"ALL_PROXY": P, name: entries}) is None) == without


def test_a_proxy_is_taken_apart() -> None:
    assert parsed("http://p") == Proxy("http", "p", 80)
    assert parsed("socks5h://p") == Proxy("socks5h", "p", 1080)
    known = parsed("https://me:p%40ss@P.example:8443/")
    assert known == Proxy("https", "p.example", 8443, "me", "p@ss")
    assert (str(known), known.login) == ("p.example:8443", "Basic bWU6cEBzcw==")
    assert parsed("http://p").login is None
