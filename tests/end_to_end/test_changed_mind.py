"""Rows that come behind, and another question: the run goes on with what is new, or says what to type to start anew."""

import json
import shlex
import threading
from collections.abc import Callable

from tests.end_to_end.batching import batches, done_as, nothing_twice
from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until
from tests.end_to_end.several import typed


def lines_of(first: int, count: int) -> bytes:
    rows = [{"id": f"id-{number}", "text": f"row {number:06d}"} for number in range(first, first + count)]
    return b"\n".join(json.dumps(row).encode() for row in rows)


def append(place: Place, data: bytes) -> None:
    with place.input.open("ab") as file:
        file.write(data)


def test_a_run_whose_input_has_grown_goes_on_with_the_new_rows_only(
    place: Place, server: Callable[..., Server]
) -> None:
    go_on = threading.Event()

    def decide(arrival: Arrival) -> None:
        if arrival.row == 50:
            go_on.wait(20)

    asked = server(decide)
    place.configure(asked.url)
    place.input.write_bytes(lines_of(0, 40))
    assert place.run().code == 0
    append(place, b"\n" + lines_of(40, 20))
    started = place.start()
    until(lambda: asked.counts[50], "the request that waits")
    append(place, b"\n" + lines_of(60, 10))  # while the run is on
    go_on.set()
    done = started.wait()
    assert done.code == 0, done.err
    assert "the input has grown: 20 rows behind those that were planned" in done.err
    assert "the input has grown since it was counted: the same command asks for the new rows" in done.err
    assert len(place.lines) == 60
    done = place.run()
    assert done.code == 0, done.err
    assert [(line["index"], line["id"], line["error"]) for line in place.lines] == [
        (index, f"id-{index}", None) for index in range(70)
    ]
    assert dict(asked.counts) == dict.fromkeys(range(70), 1)
    assert (place.report["finished"], place.report["totals"]["rows"], place.report["rows"]) == (True, 70, 70)
    assert [session["rows"] for session in place.report["sessions"]] == [40, 20, 10]
    assert "this run has finished" in place.run().err
    assert len(asked.arrivals) == 70

    row = lines_of(70, 1)
    append(place, b"\n" + row[:-9])  # whoever writes it has not written all of it
    assert place.run().code == 1
    append(place, row[-9:] + b"\n" + lines_of(71, 1))
    done = place.run()
    assert done.code == 0, done.err
    assert "grown: 2 rows behind those that were planned, the first of which had only begun then" in done.err
    assert [(line["id"], line["error"]) for line in place.lines] == [(f"id-{index}", None) for index in range(72)]
    assert dict(asked.counts) == dict.fromkeys(range(72), 1)
    assert (place.report["totals"]["rows"], place.report["totals"]["failed"]) == (72, 0)


def test_another_question_is_told_with_a_command_that_starts_anew(place: Place, server: Callable[..., Server]) -> None:
    asked = server()
    place.configure(asked.url)
    place.input.write_bytes(lines_of(0, 5) + b"\n")
    assert place.run().code == 0
    first = place.output.read_bytes()
    name = "it's my own.toml"
    place.folder.joinpath(name).write_text((place.folder / "config.toml").read_text().replace("Summarise", "Say"))
    refused = typed(place, f"rowmill run {shlex.quote(name)}")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (5, "", 1)
    assert "task.prompt: " in refused.stderr
    anew = typed(place, refused.stderr)
    assert anew.returncode == 0, anew.stderr
    assert "rowmill: the run before is kept aside: out.old.jsonl and out.old.jsonl.run\n" in anew.stderr
    assert (place.folder / "out.old.jsonl").read_bytes() == first
    assert b"Say in one line" in asked.arrivals[-1].body

    place.input.write_bytes(lines_of(3, 4) + b"\n")  # other rows
    refused = typed(place, f"rowmill run {shlex.quote(name)} --set workers.count=1")
    assert (refused.returncode, refused.stderr.count("\n")) == (5, 1)
    assert f"run {shlex.quote(name)} --set workers.count=1 --fresh" in refused.stderr
    place.input.write_bytes(lines_of(3, 5) + b"\n")
    refused = typed(place, f"rowmill run {shlex.quote(name)}")
    assert "in.jsonl has changed: rows 0 to 4 are not those" in refused.stderr
    anew = typed(place, refused.stderr)
    assert anew.returncode == 0, anew.stderr
    assert [line["id"] for line in place.lines] == [f"id-{number}" for number in range(3, 8)]
    old = typed(place, f"rowmill run {shlex.quote(name)} --set output.path=out.old-2.jsonl")
    assert old.returncode == 5, "its input is another one by now"
    again = typed(place, f"rowmill run {shlex.quote(name)}")
    assert again.stderr.rstrip().endswith(f"For a new one: rowmill run {shlex.quote(name)} --fresh")
    assert len(asked.arrivals) == 15


def test_rows_that_came_behind_go_out_in_batches_and_packs_of_their_own(
    place: Place, simulator: Callable[..., Witness], reference: Callable[[int], bytes]
) -> None:
    witness = simulator(latency_ms=5, batch_s=0.2)
    place.configure(witness.url)
    place.write_rows(70)
    rows = place.input.read_bytes().splitlines(keepends=True)
    place.input.write_bytes(b"".join(rows[:50]))
    by_batches = batches(max_requests=30)
    done_as(place, place.run(*by_batches), reference(50))
    append(place, b"".join(rows[50:]))
    done_as(place, place.run(*by_batches), reference(70))
    nothing_twice(witness, 70)

    live = simulator(latency_ms=5)
    place.configure(live.url)
    packs = ("--fresh", "--set", "task.rows_per_request=4", "--set", "cache.use=run")
    place.input.write_bytes(b"".join(rows[:50]))
    assert place.run(*packs).code == 0
    append(place, b"".join(rows[50:]))
    assert place.run(*packs[1:]).code == 0
    assert live.stats()["inputs"] == {"/chat/completions": 70}
    assert [line["id"] for line in place.lines] == [f"id-{number}" for number in range(70)]
