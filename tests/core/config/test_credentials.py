"""What is a secret, and of whom: nothing like a key may stand in a message of any provider."""

import base64

import pytest

from rowmill.core.config import OPENAI_URL, endpoints, parse
from rowmill.core.config.credentials import secrets
from rowmill.core.config.sections import ProviderConfig
from rowmill.core.errors import ConfigError


def test_what_is_like_a_key_is_a_secret_too() -> None:
    provider = ProviderConfig(
        base_url="https://h/v1?api-version=2026-01-01&subscription-key=in%2Furl-key&sig=short",
        headers={"X-Api-Token": "static-token", "X-Team": "team-of-docs"},
    )
    environ = {
        "HTTPS_PROXY": "http://me:proxy%40pass@p:3128",
        "http_proxy": "http://me:pw@p",
        "ALL_PROXY": "http://[::1",
    }
    assert secrets(provider, environ) == ("static-token", "in/url-key", "proxy@pass")


def test_what_is_a_secret_of_one_provider_is_one_of_all_the_longest_first() -> None:
    environ = {"OPENAI_API_KEY": "sk-one", "OTHER": "sk-one-and-more"}
    providers = [
        ProviderConfig(base_url=OPENAI_URL),
        ProviderConfig(name="b", base_url="http://h/v1", api_key_env="OTHER"),
    ]
    for endpoint in endpoints(providers, environ):
        assert [each for each in endpoint.secrets if each[:3] == "sk-"] == ["sk-one-and-more", "sk-one"]
        assert sorted(endpoint.secrets, key=len, reverse=True) == [*endpoint.secrets]
        for before in ("", "u:", "us:", "user:"):  # in base64, whatever stands before it and behind
            code = base64.b64encode(f"{before}sk-one{before}".encode()).decode()
            assert any(each in code for each in endpoint.secrets)


@pytest.mark.parametrize(
    "url",
    ["htps://me:pa55word@h/v1?key=pa55word", "https://me:pa55word@h/v1", "http://me:pa55word@/v1", "x?key=pa55word"],
)
def test_a_url_that_is_refused_is_shown_without_its_password(url: str) -> None:
    document = {
        "input": {"path": "i"},
        "output": {"path": "o"},
        "task": {"model": "m", "prompt": "p"},
        "provider": [{"base_url": url}],
    }
    with pytest.raises(ConfigError) as caught:
        parse(document, "c.toml")
    assert "provider.base_url" in str(caught.value)
    assert "pa55word" not in str(caught.value)


def test_an_endpoint_shows_no_query() -> None:
    (endpoint,) = endpoints([ProviderConfig(base_url="https://h/v1?key=pa55word")], {})
    assert "pa55word" not in repr(endpoint)
