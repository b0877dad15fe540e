"""`rowmill map` as people type it: in real pipes, into files, interrupted and gone on with."""

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, until

ROWS = 1000
FIRST = 300  # rows of the first shard, at least
LINES = [f"row {index:06d}: {'a line of text, with commas; and more, ' * 2}" for index in range(ROWS)]
MAP = [sys.executable, "-m", "rowmill", "map"]


@pytest.fixture
def environ(place: Place) -> dict[str, str]:
    return {**place.environ, "HOME": str(place.folder / "home")}


def flags(server: Server, prompt: str = "Say it: {text}") -> list[str]:
    return ["-m", "m", "-p", prompt, "--base-url", server.url, "--set", "workers.count=1"]


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def kept(environ: dict[str, str]) -> list[Path]:
    """Return what is kept of jobs in pipes."""
    return sorted((Path(environ["HOME"]) / ".cache" / "rowmill" / "pipes").iterdir())


def test_head_ends_a_pipe_cleanly_and_what_was_answered_is_not_asked_again(
    place: Place, server: Callable[..., Server], environ: dict[str, str]
) -> None:
    taken = threading.Event()

    def decide(arrival: Arrival) -> None:
        if arrival.row >= FIRST + 100:
            taken.wait(20)

    asked = server(decide)
    lines = "\n".join(LINES) + "\n"
    command = [*MAP, "-", *flags(asked), "--set", "workers.concurrency=16"]
    with (
        subprocess.Popen(
            command, cwd=place.folder, env=environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as first,
        subprocess.Popen(["head", "-n", "3"], stdin=first.stdout, stdout=subprocess.PIPE, text=True) as head,
    ):  # fmt: skip
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stderr is not None
        first.stdout.close()
        first.stdin.write(lines)
        first.stdin.close()
        seen, _ = head.communicate(timeout=60)
        said = "".join(iter(first.stderr.readline, "stopping: whoever read the results has had enough\n"))
        taken.set()
        said += first.stderr.read()
        assert first.wait(30) == 0, said
    assert [row["index"] for row in rows_of(seen)] == [0, 1, 2]
    assert "whoever read the results has had enough; " in said
    before = len(asked.arrivals)
    assert FIRST <= before < ROWS - 200

    done = subprocess.run(
        command, cwd=place.folder, env=environ, input=lines, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = rows_of(done.stdout)
    assert [row["index"] for row in found] == list(range(ROWS))
    assert all(row["error"] is None for row in found)
    assert set(asked.counts.values()) == {1}
    assert len(asked.counts) == ROWS
    assert kept(environ) == []


def test_a_pipe_that_was_interrupted_goes_on_with_what_is_left(
    place: Place, server: Callable[..., Server], environ: dict[str, str]
) -> None:
    (place.folder / "in.csv").write_text("title,n\n" + "".join(f'"{line}",{n}\n' for n, line in enumerate(LINES)))
    held = threading.Event()
    asked = server(lambda arrival: held.wait(0.02 if arrival.row < FIRST else 20) and None)
    words = " ".join(f"'{word}'" for word in [*MAP, "-", *flags(asked, "{title} {n}"), "--to", "csv", "--id", "n"])
    shell = ["bash", "-c", f"set -o pipefail; cat in.csv | {words} | cat > out.csv"]
    with subprocess.Popen(
        shell, cwd=place.folder, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as pipe:
        until(lambda: len(asked.arrivals) > FIRST, "rows in flight")
        os.killpg(pipe.pid, signal.SIGINT)  # as the terminal does, to all of the pipe
        held.set()
        _, said = pipe.communicate(timeout=60)
    assert pipe.returncode != 0
    before = len(asked.arrivals)
    assert FIRST <= before < ROWS
    assert "SIGINT: finishing what is in flight" in said

    done = subprocess.run(shell, cwd=place.folder, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert set(asked.counts.values()) == {1}
    out = (place.folder / "out.csv").read_text().splitlines()
    assert out[0].startswith("index,id,output,error")
    assert [line.split(",")[:2] for line in out[1:]] == [[str(index), str(index)] for index in range(ROWS)]
    assert kept(environ) == []


def test_on_a_terminal_rows_are_typed_and_results_are_seen(
    place: Place, server: Callable[..., Server], environ: dict[str, str]
) -> None:
    asked = server()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*MAP, "-", *flags(asked)], cwd=place.folder, env={**environ, "TERM": "xterm"}, start_new_session=True,
        stdin=theirs, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        while b"Ctrl-D ends them" not in shown:
            shown += os.read(ours, 65536)
        os.write(ours, b"row 000001: one\nrow 000002: two\n\x04")
        with suppress(OSError):  # the other side has closed
            while data := os.read(ours, 65536):
                shown += data
        os.close(ours)
    text = shown.decode()
    assert process.returncode == 0, text
    assert [text.count(f'{{"index":{index},') for index in (0, 1)] == [1, 1]
    assert "\x1b[" not in text, "no display among the results"
    assert "Done: 2 rows" in text
    assert asked.counts == {1: 1, 2: 1}
    assert kept(environ) == []


def test_a_job_into_a_file_a_trial_of_it_and_the_configuration_that_it_is(
    place: Place, server: Callable[..., Server], environ: dict[str, str]
) -> None:
    failing = [True]

    def decide(arrival: Arrival) -> tuple[int, dict[str, str], bytes] | None:
        refused = failing[0] and arrival.row == 3
        return (400, {}, b'{"error": {"message": "not this one"}}') if refused else None

    asked = server(decide)
    (place.folder / "lines.txt").write_text("\n".join(LINES[:8]))
    (place.folder / "in.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES[:8]))

    def ran(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=place.folder, env=environ, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == code, done.stderr
        return done

    into = [*flags(asked), "-o", "out.csv"]
    trial = ran(*MAP, "in.jsonl", *into, "--limit", "2", "-q")
    assert (trial.stdout, trial.stderr) == ("", "")
    trial = ran(*MAP, "in.jsonl", *into, "--limit", "2")
    assert trial.stderr == "trial: asked before: the results are in out.trial.csv; out.csv is not touched\n"
    assert len((place.folder / "out.trial.csv").read_text().splitlines()) == 3

    whole = ran(*MAP, "in.jsonl", *into, "--save", "job.toml", code=1)
    assert whole.stdout == ""
    assert "rowmill map in.jsonl -m m -p 'Say it: {text}'" in whole.stderr.splitlines()[-1]
    assert whole.stderr.splitlines()[-1].endswith("--save job.toml --retry: asks again for the failed rows")
    again = ran(*MAP, "in.jsonl", *into, code=1)
    assert "this has been asked before: out.csv is complete (8 rows, 1 failed)" in again.stderr
    assert "this run has finished" in ran(sys.executable, "-m", "rowmill", "run", "job.toml", code=1).stderr
    failing[0] = False
    ran(*MAP, "in.jsonl", *into, "--retry")
    assert (place.folder / "out.csv").read_text().count("row 0000") == 8
    assert asked.counts[3] == 2
    assert sum(asked.counts.values()) == 2 + 8 + 1

    # Lines of a file, and rows that <(...) gives, to stdout: one of them fails, is kept, and is asked again.
    failing[0] = True
    to_stdout = ran(*MAP, "lines.txt", *flags(asked), "-q", code=1)
    shell = 'shift; exec "$@" <(cat lines.txt)'
    assert [bool(row["error"]) for row in rows_of(to_stdout.stdout)] == [index == 3 for index in range(8)]
    sent = len(asked.arrivals)
    same = ran(*MAP, "lines.txt", *flags(asked), code=1)
    assert same.stdout == to_stdout.stdout
    assert len(asked.arrivals) == sent
    failing[0] = False
    retried = ran(*MAP, "lines.txt", *flags(asked), "--retry")
    assert len(asked.arrivals) == sent + 1
    unseen = ran("bash", "-c", 'exec "$@" >&-', "-", *MAP, "lines.txt", *flags(asked), code=2)
    assert unseen.stderr == "rowmill: there is no stdout to write results to; name a file by -o\n"
    piped = ran("bash", "-c", shell, "-", "-", *MAP, *flags(asked))
    assert piped.stdout == retried.stdout
    assert kept(environ) == []


def test_a_pipe_without_an_end_is_read_as_far_as_it_is_wanted(
    place: Place, server: Callable[..., Server], environ: dict[str, str]
) -> None:
    asked = server()

    def piped(*more: str) -> tuple[int, str, str]:
        with subprocess.Popen(["yes", "row 000001"], stdout=subprocess.PIPE) as endless:
            done = subprocess.run(
                [*MAP, "-", *flags(asked, "Translate row 000001"), *more],
                cwd=place.folder, env=environ, stdin=endless.stdout, capture_output=True, text=True, check=False,
                timeout=60,
            )  # fmt: skip
            endless.kill()
        return done.returncode, done.stdout, done.stderr

    code, out, said = piped("--limit", "5")
    assert (code, len(rows_of(out)), len(asked.arrivals)) == (0, 5, 5), said
    assert "the prompt names no column: every row gets the same; name a column as {text}" in said
    for _ in range(2):  # the same rows, however they come
        code, out, said = piped("--limit", "5", "-o", "out.jsonl")
        assert (code, out, len(asked.arrivals)) == (0, "", 10), said

    reader, writer = os.pipe()
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        gone = subprocess.Popen(
            [*MAP, "-", *flags(asked)],
            cwd=place.folder, env=environ, stdin=endless.stdout, stdout=writer, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(writer)
        os.close(reader)  # as head does, that wants nothing
        _, said = gone.communicate(timeout=60)
        endless.kill()
    assert (gone.returncode, said) == (0, "rowmill: whoever read the results has had enough; nothing was asked\n")
    assert len(asked.arrivals) == 10
    assert kept(environ) == []
