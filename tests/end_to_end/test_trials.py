"""`rowmill run --limit N` and `--sample N`: some rows beside the full run, which is not touched."""

import json
from collections.abc import Callable

from tests.end_to_end.conftest import Place, Witness


def test_a_trial_lies_beside_the_full_run_and_another_one_beside_it(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=5)
    place.configure(witness.url)
    place.write_rows(50)
    place.output.write_text("of somebody else\n")  # a run would refuse to write here

    first = place.run("--limit", "5", "--json")
    assert first.code == 0, first.err
    trial = place.folder / "out.trial.jsonl"
    rows = [json.loads(line) for line in trial.read_bytes().splitlines()]
    assert [(row["index"], row["id"]) for row in rows] == [(index, f"id-{index}") for index in range(5)]
    report = json.loads(first.out)
    assert (report["output"], report["finished"], report["totals"]["rows"]) == ("out.trial.jsonl", True, 5)
    assert report == json.loads((place.folder / "out.trial.jsonl.run" / "report.json").read_bytes())
    assert "trial    the first 5 rows: in out.trial.jsonl and out.trial.jsonl.run" in first.err

    again = place.run("--limit", "5")
    assert (again.code, again.out) == (0, "")
    assert "the first 5 rows, asked before: in out.trial.jsonl" in again.err
    assert witness.stats()["requests"] == 5

    other = place.run("--sample", "5")
    assert other.code == 0, other.err
    assert "trial    5 random rows: in out.trial-2.jsonl and out.trial-2.jsonl.run" in other.err
    sample = [json.loads(line)["id"] for line in (place.folder / "out.trial-2.jsonl").read_bytes().splitlines()]
    assert len(set(sample)) == 5
    assert sample == sorted(sample, key=lambda each: int(each.removeprefix("id-")))
    assert witness.stats()["requests"] == 10

    assert place.output.read_text() == "of somebody else\n"
    assert not place.run_dir.exists()
