"""What is like a key is left out where a command line is shown again."""

import pytest

from rowmill.core.config.hidden import typed, url


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("workers.count=4", "workers.count=4"),
        ("provider.api_key_env=MY_KEY", "provider.api_key_env=MY_KEY"),
        ("task.params.max_tokens=80", "task.params.max_tokens=80"),
        ("task.params.gateway.api_key=s3cret", "task.params.gateway.api_key=..."),
        ('task.params={gateway={api_key="s3cret", size=3}}', 'task.params={gateway={api_key="...", size=3}}'),
        ("notify.webhook=https://hooks.example.com/T0/s3cret", "notify.webhook=..."),
        ("notify . webhook=https://hooks.example.com/T0/s3cret", "notify . webhook=..."),
        ('notify.command=["curl", "s3cret"]', "notify.command=..."),
        ('provider.headers={ X-Key = "s3cret", "X-B" = \'s3cret\' }', 'provider.headers={ X-Key = ..., "X-B" = ... }'),
        ("provider.main.headers.X-Key=s3cret", "provider.main.headers.X-Key=..."),
        ("provider.headers_env.X-Key=NAME_OF_IT", "provider.headers_env.X-Key=NAME_OF_IT"),
        (
            "provider.base_url=http://h/v1?sig=s3cret&api-version=1",
            "provider.base_url=http://h/v1?sig=...&api-version=1",
        ),
        ("provider.base_url=http://me:s3cret@h/v1", "provider.base_url=http://...@h/v1"),
        ("input.path=s3://me:s3cret@bucket/rows.jsonl", "input.path=s3://...@bucket/rows.jsonl"),
        ("task.prompt=Is {token} a token = word?", "task.prompt=Is {token} a token = word?"),
        ("no equals", "no equals"),
        ("", ""),
    ],
)
def test_a_change_is_shown_without_what_is_like_a_key(change: str, shown: str) -> None:
    assert typed(change) == shown


def test_a_url_is_shown_without_its_user_and_its_keys() -> None:
    assert url("https://me:s3cret@h:1/v1?a=b&api-key=s3cret&c=d#x") == "https://...@h:1/v1?a=b&api-key=...&c=d#x"
    assert url("https://h/v1/a@b?q=1") == "https://h/v1/a@b?q=1"
