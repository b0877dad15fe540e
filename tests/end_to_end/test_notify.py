"""Who does not look is told: by a program and a webhook, at the end, at a stop, and once a cap is nearly reached."""

import json
import sys
from collections.abc import Callable
from typing import Any

from tests.end_to_end.conftest import Arrival, Place, Server, Witness
from tests.listener import Listener, listener

SECRET_PATH = "/services/T0123/B4567/wH0kn0wSth1sM4yPost"
GONE = 410
COMMAND = "cat >> told; echo >> told"


def told_by_command(place: Place) -> list[dict[str, Any]]:
    """Return what the program was told, in any order of its own, by event."""
    file = place.folder / "told"
    facts = [json.loads(line) for line in file.read_text().splitlines() if line.strip()] if file.exists() else []
    file.unlink(missing_ok=True)
    return sorted(facts, key=lambda each: str(each["event"]))


def told_by_hook(hook: Listener) -> list[dict[str, Any]]:
    bodies = [each.body for each in hook.told]
    hook.told.clear()
    return sorted(bodies, key=lambda each: str(each["event"]))


def with_notify(place: Place, url: str, hook: str) -> None:
    place.configure(url)
    path = place.folder / "config.toml"
    path.write_text(f"{path.read_text()}[notify]\ncommand = {json.dumps(COMMAND)}\nurl_env = 'HOOK_URL'\n")
    place.environ["HOOK_URL"] = hook


def mentions(place: Place, word: str) -> list[str]:
    """Return the files that hold a word."""
    return [str(each) for each in place.folder.rglob("*") if each.is_file() and word.encode() in each.read_bytes()]


def test_a_cap_a_stop_and_the_end_are_told_once_each_over_the_sessions_of_a_run(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    with listener() as hook:
        with_notify(place, simulator(latency_ms=1).url, hook.url.replace("/hook-path-1234567", SECRET_PATH))
        place.write_rows(200)
        done = place.run("--set=budget.max_requests=100")
        assert done.code == 3, done.err
        for told in (told_by_command(place), told_by_hook(hook)):
            assert [each["event"] for each in told] == ["budget", "stop"]
            budget, stop = told
            assert "of budget.max_requests is used up" in budget["why"]
            assert (stop["exit_code"], stop["rows"]) == (3, 100)
            assert stop["why"].startswith("budget.max_requests: ")
            assert stop["text"].startswith("Rowmill: out.jsonl stopped with exit code 3: budget.max_requests: ")
        done = place.run("--set=budget.max_requests=100")
        assert done.code == 3, done.err
        assert [each["event"] for each in told_by_hook(hook)] == ["stop"], "the same cap is not told again"
        told_by_command(place)
        # Nobody holds the run directory by the end: who hears may go on with it.
        rowmill = f"{sys.executable} -m rowmill"
        done = place.run(f"--set=notify.command={rowmill} clean out.jsonl.run 2> cleaned", "--set=notify.timeout_s=60")
        assert done.code == 0, done.err
        assert "removed" in (place.folder / "cleaned").read_text()
        (end,) = told_by_hook(hook)
        assert (end["event"], end["exit_code"], end["rows"], end["total_rows"], end["failed"]) == (
            "end",
            0,
            200,
            200,
            0,
        )
        assert end["text"] == end["content"]
        assert (end["run"], end["run_dir"]) == (place.report["run"], str(place.run_dir))
        again = place.run()
        assert (again.code, told_by_command(place), told_by_hook(hook)) == (0, [], []), "nothing was done"
        assert "notify" not in place.log
    assert mentions(place, SECRET_PATH) == []
    assert SECRET_PATH not in done.err + done.out


def test_who_cannot_be_told_is_a_line_of_the_log_and_no_more(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        return (400, {}, b'{"error":{"message":"no"}}') if arrival.row == 1 and not healed.exists() else None

    healed = place.folder / "healed"
    with listener("hang", GONE) as hook:
        with_notify(place, server(decide).url, hook.url)
        place.write_rows(5)
        keys = ["--set=notify.timeout_s=0.4", "--set=notify.command=sleep 100"]
        done = place.run(*keys)
        assert done.code == 1, done.err
        for text in (done.err, place.log):
            assert 'notify: "end" is not told: the webhook has not answered within 0.4 s' in text
            assert 'notify: "end" is not told: the command had not ended after 0.4 s, and was killed' in text
        assert "Done: 5 rows" in done.err
        healed.touch()
        hook.told.clear()
        done = place.retry("--set=notify.command=echo broken >&2; exit 7")
        assert done.code == 0, done.err
        assert [each["failed"] for each in told_by_hook(hook)] == [0]
        assert "the webhook answers HTTP 410" in place.log
        assert "the command ended with exit status 7: broken" in place.log
    assert mentions(place, hook.url) == []


def test_who_is_to_be_told_is_looked_for_before_anything_begins(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator()
    place.configure(witness.url)
    place.write_rows(5)
    before = place.files()
    for key, value, problem in (
        ("command", '["nobody-has-this"]', "notify.command: 'nobody-has-this' is not found"),
        ("url_env", '"NOT_SET"', "notify.url_env: set the environment variable NOT_SET"),
        ("on", '["ends"]', "notify.on[0]: 'ends' is none of 'end', 'stop', 'budget', 'trouble'"),
    ):
        for command in ("run", "check"):
            done = place.start(f"--set=notify.{key}={value}", command=command).wait()
            assert (done.code, problem in done.err) == (2, True), done.err
    assert place.files() == before
    assert witness.stats()["requests"] == 0
