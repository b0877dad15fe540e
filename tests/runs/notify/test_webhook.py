"""A webhook: what it is sent, and in what words it says that it was not reached, none of them of its URL."""

import base64
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from rowmill.core.errors import ConfigError
from rowmill.runs.notify import webhook
from rowmill.runs.notify.webhook import Hook
from tests.listener import BROKEN, REDIRECT, TOO_MANY, Listener, listener
from tests.runs.notify.news_of_a_run import NEWS, config_with


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_PAUSES_S", (0.0, 0.0, 0.0))


def tell(url: str, environ: dict[str, str] | None = None, news: Any = NEWS, **notify: Any) -> str | None:
    config = config_with(webhook=url, **{"timeout_s": 20.0, **notify})
    said = Hook(config, environ or {}).tell(news, threading.Event())
    assert said is None or not [part for part in ("127.0.0.1", "hook-path", "http:", "https:") if part in said], said
    return said


def test_it_is_sent_the_text_and_the_facts_as_json() -> None:
    with listener() as server:
        assert tell(server.url, {"HOOK": "Bearer abc"}, headers_env={"Authorization": "HOOK"}) is None
    (told,) = server.told
    assert told.path == "/hook-path-1234567"
    assert told.headers["content-type"] == "application/json"
    assert told.headers["authorization"] == "Bearer abc"
    assert told.body["text"] == told.body["content"] == NEWS.text
    assert (told.body["event"], told.body["rows"], told.body["exit_code"]) == ("end", 1000, 1)


def test_a_user_in_the_url_is_an_authorization() -> None:
    with listener() as server:
        assert tell(server.url.replace("//", "//me:p%40ss-word@")) is None
    assert base64.b64decode(server.told[0].headers["authorization"].removeprefix("Basic ")) == b"me:p@ss-word"


def test_a_text_calls_nobody() -> None:
    with listener() as server:
        tell(server.url, news=msgspec.structs.replace(NEWS, text="<!channel> @everyone <@U123>", why="<!here>"))
    body = server.told[0].body
    assert body["text"] == body["content"] == "\u2039!channel\u203a @\u200beveryone \u2039@\u200bU123\u203a"
    assert body["allowed_mentions"] == {"parse": []}


@pytest.mark.parametrize(
    ("answers", "posts", "problem"),
    [
        ([204], 1, None),
        ([BROKEN, 503, 200], 3, None),
        (["reset", 200], 2, None),
        ([TOO_MANY, 200], 2, None),
        ([BROKEN, BROKEN, BROKEN, 200], 3, "answers HTTP 500"),
        ([404, 200], 1, "answers HTTP 404"),
        ([REDIRECT, 200], 1, "answers HTTP 302 and leads elsewhere: name the URL that it leads to"),
        (["garbage"] * 3, 3, "does not speak HTTP, or breaks off"),
    ],
)
def test_what_may_help_is_tried_again_twice(answers: list[int | str], posts: int, problem: str | None) -> None:
    with listener(*answers) as server, listener() as elsewhere:
        server.elsewhere = elsewhere.url
        assert tell(server.url) == problem
        assert len(server.told) == posts
        assert elsewhere.told == []


def test_one_that_never_answers_takes_its_time_and_no_more() -> None:
    with listener("hang", "hang", "hang") as server:
        assert tell(server.url, timeout_s=0.3) == "has not answered within 0.3 s"
        assert len(server.told) == 1


def test_one_that_is_not_there_is_told_in_words() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert tell(f"http://127.0.0.1:{nobody.getsockname()[1]}/x") == "cannot be reached (Connection refused)"
    said = tell("http://no-such-host.invalid/hook-path")
    assert said is not None
    assert said.startswith("cannot be reached (")
    assert "invalid" not in said


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def private(authority: trustme.CA) -> Iterator[Listener]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with listener(tls=context) as server:
        yield server


def test_a_certificate_is_trusted_where_somebody_vouches_for_it(
    private: Listener, authority: trustme.CA, tmp_path: Path
) -> None:
    said = tell(private.url)
    assert said == "has a certificate that this machine does not trust, or that is another host's"
    assert private.told == []
    assert tell(private.url.replace("https", "http")) in {
        "does not speak HTTP, or breaks off", "cannot be reached (Connection reset by peer)",
    }  # fmt: skip
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    config = config_with(webhook=private.url)
    client = msgspec.structs.replace(config.client, ca_file=str(tmp_path / "authority.pem"))
    assert Hook(msgspec.structs.replace(config, client=client), {}).tell(NEWS, threading.Event()) is None
    assert len(private.told) == 1


def test_a_server_that_speaks_no_tls_is_told_in_words() -> None:
    with listener() as server:
        assert tell(server.url.replace("http:", "https:")) == "speaks no TLS that fits"


@pytest.mark.parametrize(
    ("notify", "environ", "problem"),
    [
        ({"url_env": "HOOK"}, {}, "notify.url_env: set the environment variable HOOK, or name another one"),
        ({"url_env": "HOOK"}, {"HOOK": "hooks.example.com/secret"}, "notify.url_env: the URL in the environment "),
        ({"url_env": "HOOK"}, {"HOOK": "https://hooks.example.com:x/secret"}, "notify.url_env: the URL in the "),
        ({"url_env": "HOOK"}, {"HOOK": "https://hooks.example.com/secrét"}, "notify.url_env: what is in HOOK has "),
        (
            {"webhook": "http://x.example/secret", "headers_env": {"X-Key": "TOKEN"}},
            {"TOKEN": ""},
            "notify.headers_env: set the environment variable TOKEN",
        ),
    ],
)
def test_what_the_environment_lacks_is_told_before_anything_begins(
    notify: dict[str, Any], environ: dict[str, str], problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Hook(config_with(**notify), environ)
    assert str(caught.value).startswith(problem)
    assert "secr" not in str(caught.value)
