"""What [notify] may say: what cannot be is refused by its key, and without a word of a URL."""

from math import inf, nan
from typing import Any

import pytest

from rowmill.core.config import parse
from rowmill.core.config.sections import NotifyConfig
from rowmill.core.errors import ConfigError

HOOK = "https://hooks.example.com/T0/sekret"


def notify(**keys: Any) -> NotifyConfig:
    tree: dict[str, Any] = {
        "input": {"path": "in.jsonl"},
        "task": {"model": "m", "prompt": "Say {text}"},
        "output": {"path": "out.jsonl"},
        "notify": keys,
    }
    return parse(tree, "c.toml").notify


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"on": ["end"]}, "notify.command"),
        ({"timeout_s": 3}, "notify.command"),
        ({"command": "x", "on": []}, "notify.on"),
        *(({"command": value}, "notify.command") for value in ("", " ", [], [""], ["a", "b\0"])),
        ({"webhook": HOOK, "url_env": "HOOK"}, "notify.url_env"),
        *(({"webhook": value}, "notify.webhook") for value in (
            "", "hooks.example.com/sekret", "ftp://x/sekret", "https:///sekret", "https://x/ sekret", "https://x/#sekret",
            "https://x:port/sekret", "https://x/sekrét")),
        *(({"url_env": value}, "notify.url_env") for value in ("", "a b", HOOK)),
        ({"command": "x", "headers_env": {"X-Key": "KEY"}}, "notify.headers_env"),
        *(({"webhook": HOOK, "headers_env": value}, "notify.headers_env") for value in (
            {"a b": "KEY"}, {"X-Key": ""}, {"X-Key": "a b"}, {"Content-Type": "KEY"})),
        *(({"command": "x", "timeout_s": value}, "notify.timeout_s") for value in (0, -1, 601, inf, nan)),
        *(({"command": "x", "budget_at": value}, "notify.budget_at") for value in (0, 1.1, nan)),
        ({"command": "x", "on": ["ends"]}, "notify.on"),
        ({"command": 5}, "notify.command"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_key(keys: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        notify(**keys)
    assert str(caught.value).startswith(f"c.toml: {key}"), caught.value
    assert "sekr" not in str(caught.value)


def test_an_event_that_there_is_not_is_told_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'ends' is none of 'end', 'stop', 'budget', 'trouble'$"):
        notify(command="x", on=["ends"])


def test_nobody_is_told_unless_it_is_asked_for() -> None:
    assert not notify().used
    assert notify(command=["tell"]).used
    assert notify(url_env="HOOK").on == ["end", "stop", "budget"]
