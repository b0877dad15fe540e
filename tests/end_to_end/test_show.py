"""`rowmill show`: the replies of a run, whole or chosen, while it is at work and after."""

import json
import signal
from collections.abc import Callable

from tests.end_to_end.conftest import Arrival, Done, Place, Server, Witness, until
from tests.end_to_end.several import Answer

REFUSED = json.dumps({"error": {"message": "not for you", "type": "forbidden", "code": "no"}}).encode()


def shown(place: Place, *arguments: str) -> Done:
    return place.start(*arguments, command="show").wait(20)


def test_rows_are_shown_with_what_was_asked(place: Place, server: Callable[..., Server]) -> None:
    def decide(arrival: Arrival) -> Answer | None:
        return (403, {}, REFUSED) if arrival.row in (3, 5) else None

    witness = server(decide)
    place.configure(witness.url)
    place.write_rows(30)
    none = shown(place)
    assert (none.code, "holds no run" in none.err) == (5, True)
    assert (done := place.run()).code == 1, done.err
    first = shown(place)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("row 0  id id-0\n  user     Summarise in one line:\n           ")
    assert (first.out.count("\nrow ") + 1, "and more: --limit N" in first.out) == (20, True)
    failed = shown(place, "--failed")
    assert [line for line in failed.out.splitlines() if line.startswith(("row", "  failed"))] == [
        "row 3  id id-3",
        "  failed   forbidden, HTTP 403: not for you",
        "row 5  id id-5",
        "  failed   forbidden, HTTP 403: not for you",
    ]
    assert shown(place, "--class", "timeout").out == ""
    lines = [json.loads(line) for line in shown(place, "--json", "--where", "index >= 28").out.splitlines()]
    assert [line["id"] for line in lines] == ["id-28", "id-29"]
    assert all(line["prompt"]["messages"][0]["content"].startswith("Summarise in one line:\n") for line in lines)
    several = shown(place, "--row", "7", "--row", "2", "--row", "99")
    assert [line for line in several.out.splitlines() if line.startswith("row")] == ["row 2  id id-2", "row 7  id id-7"]
    assert len(shown(place, "--sample", "4", "--json").out.splitlines()) == 4
    odd = shown(place, "--where", "what")
    assert (odd.code, odd.err) == (
        2,
        "rowmill: --where what: write NAME = VALUE, with one of = != < > <= >= ~, and more of them behind `and`\n",
    )
    assert shown(place, "--row", "-1").code == 2
    other = shown(place, "--row", "2", "--set", "task.prompt=Translate: {text}")
    assert "rowmill: prompts are left out: " in other.err
    assert "task.prompt: " in other.err
    rows = place.input.read_bytes()
    place.input.write_bytes(rows.replace(b"id-29", b"id-XX"))
    edited = shown(place, "--row", "2", "--row", "3")
    assert edited.err.count("rowmill: prompts are left out: ") == 1
    assert "changed while the run was going on" in edited.err
    assert "  user" not in edited.out, "what lies there now may not be what was asked"
    place.input.unlink()
    gone = shown(place, "--row", "2")
    assert "row 2  id id-2\n  reply" in gone.out, "the prompt is gone, the reply is not"
    assert "prompts are left out: " in gone.err
    assert shown(place, "--row", "2", "-q").err == ""


def test_a_run_that_is_at_work_and_one_that_was_killed_show_what_they_have(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    place.configure(simulator(latency_ms=80).url)
    place.write_rows(200)
    started = place.start("--set", "workers.concurrency=4")
    until(lambda: shown(place, "--limit", "1").out.startswith("row "), "a first row")
    started.signal(signal.SIGKILL)
    started.wait()
    found = [json.loads(line)["index"] for line in shown(place, "--json", "--limit", "1000").out.splitlines()]
    assert found == sorted(place.recorded())
    trial = place.run("--limit", "2")
    assert "\nrow 0  id " in trial.err
    assert "\n  user     " in trial.err
    assert place.run().code == 0
    assert place.start(command="clean").wait().code == 0
    cleaned = shown(place)
    assert (cleaned.code, "was cleaned of its answers; its output is " in cleaned.err) == (5, True)


def test_vectors_are_shown_by_their_first_numbers_and_given_whole_as_json(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    place.configure(simulator().url)
    place.write_rows(5)
    vectors = ["--set", "task.api=embeddings", "--set", 'task.params={gateway_key="sk-secret-1"}']
    done = place.run(*vectors, "--limit", "2")
    assert done.code == 0, done.err
    assert " numbers: " in done.err
    assert max(map(len, done.err.splitlines())) < 200
    trial = [*vectors, "--set", "output.path=out.trial.jsonl", "--set", "checkpoint.dir=out.trial.jsonl.run"]
    assert shown(place, *trial).out.count(" numbers: ") == 2
    as_sent = shown(place, "--json", "--limit", "1", *trial).out
    assert '"gateway_key":"[hidden ' in as_sent
    assert "sk-secret-1" not in as_sent
    assert as_sent.count('"input":["Summarise') == 1
    given = [json.loads(line)["output"] for line in shown(place, "--json", *trial).out.splitlines()]
    output = place.run_dir.with_name("out.trial.jsonl").read_text().splitlines()
    assert given == [json.loads(line)["output"] for line in output]
