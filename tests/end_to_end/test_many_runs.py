"""`rowmill runs`, `rowmill clean` and trials that are asked again: what lies about after some days of work."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from rowmill.interface import cli
from tests.end_to_end.conftest import Arrival, Done, Place, Server


@pytest.fixture
def ran(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run a command that starts no process in this one."""
    monkeypatch.chdir(place.folder)

    def run(*words: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, out, err)

    return run


def rows_of(out: str) -> dict[str, list[str]]:
    """Return the lines of the table by the directory."""
    return {words[0]: words[1:] for line in out.splitlines() if not line.startswith(" ") and (words := line.split())}


class Row1(NamedTuple):
    """A server that refuses row 1 as long as it is told to."""

    asked: Server
    failing: list[bool]


@pytest.fixture
def row1(place: Place, server: Callable[..., Server]) -> Row1:
    failing = [True]

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        refused = failing[0] and arrival.row == 1
        return (400, {}, b'{"error": {"message": "not this one"}}') if refused else None

    asked = server(decide)
    place.configure(asked.url)
    place.write_rows(60)
    lines = [json.loads(line) for line in place.input.read_bytes().splitlines()]
    # Spooled, so that there is more to be removed.
    (place.folder / "in.csv").write_text("id,text\n" + "".join(f'{row["id"]},"{row["text"]}"\n' for row in lines))
    return Row1(asked, failing)


OF_CSV = ("--set", "input.path=in.csv")


def test_a_trial_is_retried_as_a_run_is(place: Place, row1: Row1) -> None:
    asked, failing = row1
    trial = place.run(*OF_CSV, "--limit", "3")
    assert trial.code == 1
    assert "  next     rowmill retry config.toml --set input.path=in.csv --limit 3: asks again" in trial.err
    assert "there is no trial of these rows to retry" in place.retry(*OF_CSV, "--sample", "2").err
    failing[0] = False
    retried = place.retry(*OF_CSV, "--limit", "3")
    assert retried.code == 0, retried.err
    assert (dict(asked.counts), sorted(path.name for path in place.folder.glob("*.run"))) == (
        {0: 1, 1: 2, 2: 1},
        ["out.trial.jsonl.run"],
    )


def test_a_run_with_failed_rows_keeps_its_answers_when_it_is_cleaned(
    place: Place, row1: Row1, ran: Callable[..., Done]
) -> None:
    asked, failing = row1
    assert place.run(*OF_CSV).code == 1
    before = place.files()
    dry = ran("clean", "-n", *OF_CSV)
    assert "out.jsonl.run: would remove " in dry.err
    assert "the answers stay, for 1 failed rows could be retried" in dry.err
    assert {name for name, data in place.files().items() if data != before[name]} <= {"out.jsonl.run/lock"}
    assert ran("clean", "out.jsonl.run").code == 0
    assert not (place.run_dir / "spool").exists()
    failing[0] = False
    again = place.retry(*OF_CSV)
    assert again.code == 0, again.err
    assert (asked.counts[0], asked.counts[1]) == (1, 2)


def test_runs_are_listed_with_what_is_damaged_and_cleaned_without_paying_twice(
    place: Place, row1: Row1, ran: Callable[..., Done]
) -> None:
    asked, failing = row1
    failing[0] = False
    assert place.run(*OF_CSV).code == 0
    assert place.run(*OF_CSV, "--limit", "3").code == 0
    whole = place.output.read_bytes()
    (place.folder / "a").mkdir()
    (place.folder / "a" / "broken.jsonl.run").mkdir()
    (place.folder / "a" / "broken.jsonl.run" / "manifest.json").write_text('{"format": 2, "run_id"')
    (place.folder / "a" / "of_others").mkdir()
    (place.folder / "a" / "of_others" / "manifest.json").write_text('{"name": "web app"}')
    listed = ran("runs")
    assert (listed.code, listed.err) == (0, "")
    table = rows_of(listed.out)
    assert list(table) == ["run", "a/broken.jsonl.run", "out.jsonl.run", "out.trial.jsonl.run"]
    assert table["out.jsonl.run"][:3] == ["finished", "60", "0"]
    assert table["out.trial.jsonl.run"][:3] == ["finished", "3", "0"]
    assert table["a/broken.jsonl.run"][0] == "damaged"
    assert "is damaged" in listed.out
    assert [each["state"] for each in json.loads(ran("runs", ".", "--json").out)] == [
        "damaged", "finished", "finished",
    ]  # fmt: skip

    # Cleaned, it is known as finished; what would pay again is refused with what to type.
    size = sum(path.stat().st_size for path in place.run_dir.rglob("*") if path.is_file())
    cleaned = ran("clean", "out.jsonl.run", "out.trial.jsonl.run")
    assert (cleaned.code, cleaned.err.count("removed")) == (0, 2)
    assert sum(path.stat().st_size for path in place.run_dir.rglob("*") if path.is_file()) < size / 3
    assert "this run has finished: out.jsonl is complete (60 rows, 0 failed)" in place.run(*OF_CSV).err
    assert place.output.read_bytes() == whole
    with (place.folder / "in.csv").open("a") as file:
        file.write("new,row 000099\n")
    refused = place.run(*OF_CSV)
    assert (refused.code, refused.err.count("\n")) == (5, 1)
    assert "was cleaned of its answers: the rows that came behind cannot be put behind" in refused.err
    assert refused.err.rstrip().endswith("rowmill run config.toml --set input.path=in.csv --fresh")
    assert 99 not in asked.counts


def test_what_has_not_finished_is_not_cleaned(
    place: Place, server: Callable[..., Server], ran: Callable[..., Done]
) -> None:
    place.configure(server().url)
    place.write_rows(5)
    assert place.run("--set", "budget.max_requests=2").code == 3
    before = {name: data for name, data in place.files().items() if "lock" not in name}
    refused = ran("clean")
    assert (refused.code, refused.err.count("\n")) == (5, 1)
    assert "has not finished, and nothing was removed: rowmill run goes on with it" in refused.err
    assert {name: data for name, data in place.files().items() if "lock" not in name} == before
    assert rows_of(ran("runs", "out.jsonl.run").out)["out.jsonl.run"][0] == "stopped"
    for words in (["clean", "gone.toml"], ["runs", "gone"]):
        done = ran(*words)
        assert (done.code, done.err.count("\n")) == (2, 1)
    empty = place.folder / "empty"
    Path(empty).mkdir()
    assert "no run lies below" in ran("runs", "empty").err
