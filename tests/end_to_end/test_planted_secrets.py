"""Secrets are planted wherever a run is given one and wherever a server can say one back: none is kept or shown.

One run has them all, its server echoes them in every way, and then everything that there is of it is read: all files
but those that the user wrote, and what every command says, while it goes on and after it. A new view is a line here.
"""

import base64
import json
import re
import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from rowmill.interface import cli
from tests.end_to_end.collectors import Collector, collector, fetched
from tests.end_to_end.conftest import Arrival, Done, Place, Server, until
from tests.listener import BROKEN, Listener, listener

# By where it is planted; each is found by its own name.
PLANTED = {
    "api_key_env": "sk-planted-key-0123456789",
    "headers_env": "planted-headers-env-0123",
    "headers": "planted-headers-0123456",
    "query of base_url": "planted-query-01234567",
    "params": "planted-params-0123456",
    "proxy": "planted-proxy-01234567",
    "url_env": "planted-hook-path-0123",
    "headers_env of the webhook": "planted-hook-token-0123",
    "user of the webhook": "planted-hook-password",
    "environment of the command": "planted-command-0123456",
    "headers_env of metrics": "planted-otlp-token-0123",
    "variable of .env that nobody names": "planted-unused-012345",
}
# What the server and a proxy before it are given, and may say.
SEEN = [PLANTED[each] for each in ("api_key_env", "headers_env", "headers", "query of base_url", "params", "proxy")]
ECHO = " | ".join([*SEEN, base64.b64encode(SEEN[0].encode()).decode(), SEEN[0].upper(), "end"])
GIVEN = ("config.toml", "in.jsonl", ".env")  # files of the user's
AT_WORK = ["status --json", "show --json --limit 3", "status", "show", "report --json", "report --output -"]
AFTER = [
    *AT_WORK,
    "show --failed",
    "compare out.trial.jsonl.run --json",
    "compare out.trial.jsonl.run",
    "compare out.trial.jsonl.run --html -",
    "plan --json",
    "plan",
    "check --no-request --json",
    "check --no-request",
]
CONFIG = f"""
[input]
path = "in.jsonl"
id = "id"
[task]
model = "sim-small"
prompt = "Summarise in one line:\\n{{text}}"
params = {{ gateway = {{ api_key = "{PLANTED["params"]}" }} }}
[output]
path = "out.jsonl"
include = ["meta"]
[[provider]]
name = "main"
base_url = "URL?sig={PLANTED["query of base_url"]}&api-version=1"
api_key_env = "PLANT_KEY"
headers = {{ X-Api-Key = "{PLANTED["headers"]}" }}
headers_env = {{ X-Other = "PLANT_HEADER" }}
[retry]
attempts = 1
[workers]
count = 1
concurrency = 4
[notify]
on = ["end", "stop", "budget", "trouble"]
command = "echo $PLANT_COMMAND_TOKEN $PLANT_KEY $HOOK_URL >&2; cat; exit 3"
url_env = "HOOK_URL"
headers_env = {{ Authorization = "HOOK_TOKEN" }}
"""
# Of the one session that is measured: its libraries take as long to start as all else.
METRICS = ("port=0", 'otlp="COLLECTOR"', "interval_s=0.2", 'headers_env={ Authorization = "OTLP_TOKEN" }')


def echoing(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
    """Say all secrets: in errors of several kinds, in headers, and beside the content of good replies."""
    assert PLANTED["api_key_env"] in str(arrival.authorization)
    assert PLANTED["params"] in arrival.body.decode()
    headers = {
        "x-request-id": PLANTED["api_key_env"],
        "x-ratelimit-limit-requests": PLANTED["headers_env"],
        "x-ratelimit-reset-requests": PLANTED["headers"],
        "openai-organization": PLANTED["params"],
        "set-cookie": f"session={PLANTED['api_key_env']}",
        "location": f"http://127.0.0.1:9/{PLANTED['api_key_env']}",
    }
    error = {"message": ECHO, "type": ECHO, "code": ECHO, "param": ECHO}
    match arrival.row:
        case 0:
            return 400, headers, json.dumps({"error": error}).encode()
        case 5:
            return 500, headers, ECHO.encode()
        case 10 if arrival.nth == 1:
            return 429, {**headers, "retry-after": "0"}, json.dumps({"error": error}).encode()
        case 15:
            return 307, headers, b""
        case 20:
            return 200, headers, f"<html>{ECHO}</html>".encode()
        case 25:
            return 200, headers, json.dumps({"error": error}).encode()
        case 30:
            choice = {"message": {"content": "six"}, "finish_reason": PLANTED["api_key_env"]}
            reply = {"model": ECHO, "id": ECHO, "system_fingerprint": ECHO, "choices": [choice], "usage": {"by": ECHO}}
            return 200, headers, json.dumps(reply).encode()
    return None


class Planted(NamedTuple):
    """A run in which all is planted, and who hears of it."""

    place: Place
    server: Server
    hook: Listener
    collected: Collector

    def heard(self) -> dict[str, str]:
        """Return what others were told."""
        assert self.hook.told
        assert self.collected.pushed
        return {
            **{f"told {place}": json.dumps(each.body) for place, each in enumerate(self.hook.told)},
            **{f"pushed {place}": each[2].decode("latin-1") for place, each in enumerate(self.collected.pushed)},
        }


@pytest.fixture
def planted(place: Place, server: Callable[..., Server]) -> Iterator[Planted]:
    witness = server(echoing)
    with listener(BROKEN, 404) as hook, collector() as collected:
        (place.folder / "config.toml").write_text(CONFIG.replace("URL", witness.url, 1))
        user = f"me:{PLANTED['user of the webhook']}@"
        (place.folder / ".env").write_text(
            f'# of this job\nexport PLANT_KEY="{PLANTED["api_key_env"]}"\n'
            f"HOOK_TOKEN='Bearer {PLANTED['headers_env of the webhook']}'\n"
            f"OTLP_TOKEN=Bearer {PLANTED['headers_env of metrics']}\n"
            f"UNUSED_TOKEN={PLANTED['variable of .env that nobody names']}\n"
        )
        place.environ |= {
            "PLANT_HEADER": PLANTED["headers_env"],
            "PLANT_COMMAND_TOKEN": PLANTED["environment of the command"],
            "HTTP_PROXY": f"http://me:{PLANTED['proxy']}@127.0.0.1:9",
            "http_proxy": f"http://me:{PLANTED['proxy']}@127.0.0.1:9",
            "HOOK_URL": hook.url.replace("//", f"//{user}") + f"/{PLANTED['url_env']}",
        }
        yield Planted(place, witness, hook, collected)


def writings(secret: str) -> set[str]:
    """Return what a secret may look like."""
    code = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, secret.upper(), quote(secret), code[:-2], secret.encode().hex()}


def found_in(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Return which plant is found where."""
    return [
        (where, plant)
        for where, text in texts.items()
        for plant, secret in PLANTED.items()
        if any(each in text for each in writings(secret))
    ]


def files_of(folder: Path) -> dict[str, str]:
    """Return all that was written, hidden files and names of files included."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in GIVEN]
    assert any(path.name == "run.log" for path in files)
    return {str(path.relative_to(folder)): f"{path}\n{path.read_bytes().decode(errors='replace')}" for path in files}


class Views:
    """What the commands say that only look, each called in this process: to start one takes ten times as long."""

    def __init__(self, place: Place, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        patch.chdir(place.folder)
        for name, value in place.environ.items():
            patch.setenv(name, value)
        self._captured = captured

    def said(self, line: str) -> str:
        self._captured.readouterr()
        with pytest.raises(SystemExit):
            cli.main(shlex.split(line))
        said = self._captured.readouterr()
        assert said.out + said.err, line
        return said.out + said.err

    def all_of(self, lines: list[str], when: str) -> dict[str, str]:
        return {f"{line}, {when}": self.said(line) for line in lines}


def text_of(done: Done) -> str:
    return done.out + done.err


def test_no_secret_is_in_a_file_or_in_anything_that_is_said(
    planted: Planted, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, witness = planted.place, planted.server
    views = Views(place, monkeypatch, capsys)
    place.write_rows(40)
    texts = {"trial": text_of(place.run("--limit=35", "--json"))}
    witness.counts.clear()
    witness.hold(len(witness.arrivals) + 10)
    metrics = [f"--set=metrics.{each.replace('COLLECTOR', planted.collected.url)}" for each in METRICS]
    started = place.start("--json", "-v", *metrics)
    until(lambda: len(place.recorded()) > 3 and (place.run_dir / "status.json").exists(), "some rows")
    texts |= views.all_of(AT_WORK, "at work")
    (scraped,) = re.findall(r"metrics: (http\S+)", place.log)
    texts["metrics"] = fetched(scraped)
    witness.go_on()
    done = started.wait()
    assert done.code == 1, done.err
    assert [(row["index"], row["status"]) for row in place.failed] == [
        (0, 400),
        (5, 500),
        (15, 307),
        (20, 200),
        (25, 200),
    ]
    assert "notify: " in place.log
    texts |= {"run": text_of(done), **views.all_of(AFTER, "after it")}
    assert '"usd"' in texts["run"]
    assert "rowmill_requests_total" in texts["metrics"]
    assert (place.run_dir / "report.html").exists()
    # What is told of a server that is not reached, and of a configuration that cannot be.
    elsewhere = f"--set=provider.base_url=http://provider.invalid/v1?sig={PLANTED['query of base_url']}"
    started = place.start(elsewhere, command="retry")
    until(lambda: "Is the proxy 127.0.0.1:9 of the environment right" in place.log, "the proxy")
    started.signal(signal.SIGTERM)
    texts["proxy"] = text_of(started.wait())
    password = f"http://me:{PLANTED['proxy']}@127.0.0.1/v1"
    texts["password"] = views.said(f"run --set=provider.base_url={password}")
    assert "must not hold a password" in texts["password"]
    texts |= {**files_of(place.folder), **planted.heard()}
    assert found_in(texts) == []
    assert texts["out.errors.jsonl"].count("[redacted]") > len(SEEN)
