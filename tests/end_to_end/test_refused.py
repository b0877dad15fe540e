"""What is refused before a run starts: one line that says what to do, the right exit code, and nothing touched."""

import gzip
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Arrival, Place, Server, Witness, until

URL = "http://127.0.0.1:9/v1"  # the discard port: nothing of this may come as far as a request


def refused(place: Place, code: int, *says: str, arguments: tuple[str, ...] = ()) -> str:
    """Run, and hold what every refusal must be."""
    before = _but_the_lock(place)
    done = place.run(*arguments)
    assert done.code == code, done.err
    assert done.out == ""
    assert len(done.lines) == 1, done.err
    assert done.err.startswith("rowmill: ")
    for text in says:
        assert text in done.err
    assert _but_the_lock(place) == before
    return done.err


def _but_the_lock(place: Place) -> dict[str, bytes | None]:
    return {name: data for name, data in place.files().items() if not name.endswith("/lock")}  # it says who looked last


@pytest.fixture
def ready(place: Place) -> Place:
    """Make a place in which all is well, but for the server."""
    place.configure(URL)
    place.write_rows(10)
    return place


def test_a_configuration_that_is_not_there(place: Place) -> None:
    place.write_rows(1)
    refused(place, 2, "config.toml", "no such file")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("workers.cuont=2", ("workers.cuont", "did you mean workers.count?")),
        ("worker.count=2", ("[worker]", "did you mean [workers]?")),
        ("workers.concurrency=many", ("workers.concurrency", "int")),
        ("workers.count=0", ("workers.count", "1 to 256")),
        ("provider.timeout_s=-1", ("provider.timeout_s",)),
        ("provider.base_url=ftp://x", ("provider.base_url", "http://")),
        ("provider.requests_per_day=0", ("provider.requests_per_day", "above 0")),
        ("provider.weight=0", ("provider.weight", "0 everywhere")),
        ("provider.fallback=['other']", ("provider.fallback", "'other'")),
        ("provider.headers.Host=x", ("provider.headers", "Host", "engine itself")),
        ("retry.share=2", ("retry.share", "0 to 1")),
        ("machine.memory=90", ("machine.memory", "at most 1")),
        ("client.transport=carrier-pigeon", ("client.transport",)),
        ("task.prompt=Say {text", ("task.prompt",)),
        ("task.prompt=Say {nothing}", ("'nothing'", "task.prompt", "the columns are id, text")),
        ("input.id=number", ("'number'", "input.id")),
        ("input.path=missing.jsonl", ("missing.jsonl", "no such file", "input.path")),
        ("input.path=folder", ("folder", "holds no files of rows", "input.path")),
        ("output.path=in.jsonl", ("output.path", "input.path")),
        ("output.errors=out.jsonl", ("output.errors", "output.path")),
        ("output.path=./x/../in.jsonl", ("output.path", "input.path")),
        ("output.path=nowhere/out.jsonl", ("output.path", "nowhere")),
        ("output.path=folder", ("output.path", "folder", "directory")),
        ("checkpoint.dir=folder", ("folder", "in the way")),
        ("checkpoint.dir=in.jsonl", ("checkpoint.dir", "input.path")),
        ("output.include=['everything']", ("output.include",)),
        ("simulator.faults={'501'=0.5}", ("501",)),
        ("nonsense", ("--set nonsense",)),
    ],
)
def test_a_configuration_that_cannot_be(ready: Place, override: str, says: tuple[str, ...]) -> None:
    (ready.folder / "folder").mkdir()
    (ready.folder / "folder" / "in the way").write_text("not a run")
    (ready.folder / "x").mkdir()
    code = 5 if override == "checkpoint.dir=folder" else 2
    arguments: tuple[str, ...] = ("--set", override)
    if override.startswith("simulator"):
        arguments += ("--set", "provider.base_url=simulator")
    refused(ready, code, *says, arguments=arguments)


def test_a_damaged_compressed_file(ready: Place) -> None:
    ready.input.write_bytes(gzip.compress(ready.input.read_bytes())[:-20])
    refused(ready, 2, "in.jsonl", "gzip file is damaged", "near byte", "anew")


def test_a_file_that_cannot_be_read(ready: Place) -> None:
    ready.input.chmod(0)
    if os.access(ready.input, os.R_OK):
        ready.input.unlink()  # root may read anything; nobody may open a socket
        ready.input.symlink_to("in.jsonl")
    before = sorted(ready.folder.iterdir())
    done = ready.run()
    assert (done.code, done.out, len(done.lines)) == (2, "", 1)
    assert "in.jsonl: cannot be read: " in done.err
    assert sorted(ready.folder.iterdir()) == before


def test_a_pipe_as_input(ready: Place) -> None:
    ready.input.unlink()
    os.mkfifo(ready.input)
    done = ready.start().wait(10)  # nobody writes into it: opening it as a file would wait for ever
    assert (done.code, done.out, len(done.lines)) == (2, "", 1)
    assert "no regular file" in done.err
    assert stat.S_ISFIFO(ready.input.stat().st_mode)
    assert not ready.run_dir.exists()


def test_no_key_where_one_is_named(ready: Place) -> None:
    refused(ready, 2, "ROWMILL_TEST_KEY", "no API key", arguments=("--set", "provider.api_key_env=ROWMILL_TEST_KEY"))
    ready.environ["ROWMILL_TEST_KEY"] = "   "
    refused(ready, 2, "ROWMILL_TEST_KEY", arguments=("--set", "provider.api_key_env=ROWMILL_TEST_KEY"))


def test_no_value_for_a_header_where_one_is_named(ready: Place) -> None:
    override = ("--set", "provider.headers_env.api-key=ROWMILL_TEST_KEY")
    refused(ready, 2, "ROWMILL_TEST_KEY", "header api-key", "provider.headers_env", arguments=override)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('name = "other"', ("provider.base_url of 'other'", "is missing")),
        (f'name = "main"\nbase_url = "{URL}"', ("provider.name", "'main' is the name of two")),
        (f'name = "other"\nbase_url = "{URL}"\nweight = -1', ("provider.weight of 'other'",)),
        (f'name = "other"\nbase_url = "{URL}"\nfallback = ["mian"]', ("provider.fallback of 'other'", "'mian'")),
        (f'name = "other"\nbase_url = "{URL}"\napi_key_env = "ROWMILL_TEST_KEY"', ("'other'", "ROWMILL_TEST_KEY")),
    ],
)
def test_several_providers_of_which_one_cannot_be(ready: Place, table: str, says: tuple[str, ...]) -> None:
    text = (ready.folder / "config.toml").read_text()
    if "base_url" not in table:
        text = text.replace(f'base_url = "{URL}"', "")
    (ready.folder / "config.toml").write_text(f"{text}\n[[provider]]\n{table}\n")
    refused(ready, 2, *says)


def test_no_key_for_openai(ready: Place) -> None:
    text = (ready.folder / "config.toml").read_text()
    (ready.folder / "config.toml").write_text(text.replace(f'base_url = "{URL}"', ""))
    ready.environ.pop("OPENAI_API_KEY", None)
    refused(ready, 2, "OPENAI_API_KEY")


def test_an_output_that_another_made(ready: Place) -> None:
    ready.output.write_text("somebody's work")
    refused(ready, 2, "output.path", "out.jsonl exists", "move it away")


def test_an_errors_file_that_another_made(ready: Place) -> None:
    ready.errors.write_text("somebody's work")
    refused(ready, 2, "output.errors", "out.errors.jsonl exists")


def test_a_run_directory_of_something_else(ready: Place, simulator: Callable[..., Witness]) -> None:
    ready.configure(simulator(latency_ms=2).url)
    assert ready.run().code == 0
    ready.output.rename(ready.folder / "kept.jsonl")
    one_line = ("--set", "checkpoint.dir=out.jsonl.run")
    refused(
        ready, 5, "task.model", '"sim-small" -> "sim-large"', arguments=(*one_line, "--set", "task.model=sim-large")
    )
    refused(ready, 5, "task.prompt", arguments=(*one_line, "--set", "task.prompt=Otherwise: {text}"))
    refused(ready, 5, "task.params", arguments=(*one_line, "--set", "task.params.temperature=1"))
    refused(ready, 5, "task.system", arguments=(*one_line, "--set", "task.system=Be brief."))
    refused(ready, 5, "output.include", arguments=(*one_line, "--set", "output.include=['meta']"))
    whole = ready.input.read_bytes()
    ready.input.write_bytes(whole[:-30])
    refused(ready, 5, "the input", "bytes", "rowmill run config.toml --fresh")
    ready.input.write_bytes(b'{"id":"one more","text":"row"}\n' + whole)  # before the others
    refused(ready, 5, "in.jsonl has changed", "rowmill run config.toml --fresh")


def test_an_input_that_changed_but_for_its_size(ready: Place, simulator: Callable[..., Witness]) -> None:
    ready.configure(simulator(latency_ms=2).url)
    assert ready.run().code == 0
    whole = ready.output.read_bytes()
    ready.output.unlink()
    data = ready.input.read_bytes()
    changed = data.replace(b"row 000003", b"ROW 000003")
    assert len(changed) == len(data) != data.count(b"ROW")
    ready.input.write_bytes(changed)
    refused(ready, 5, "in.jsonl has changed", "rows 0 to 9")
    ready.input.write_bytes(data)  # put back: only its time is another
    assert ready.run().code == 0
    assert ready.output.read_bytes() == whole


def test_an_input_that_changes_while_it_is_read_stops_the_run(ready: Place, server: Callable[..., Server]) -> None:
    ready.write_rows(2000)
    changed: list[Path] = []

    def decide(_: object) -> None:
        if not changed:
            changed.append(ready.input)
            with ready.input.open("r+b") as file:
                file.seek(-100, os.SEEK_END)
                file.write(b"?")

    ready.configure(server(decide).url)
    done = ready.run("--set", "workers.count=1", "--set", "workers.concurrency=2")
    assert done.code == 5, done.err
    assert "Traceback" not in done.err
    assert "changed while the run was going on" in done.err
    assert not ready.output.exists()


def test_what_is_on_its_way_is_brought_home_when_an_input_changes(ready: Place, server: Callable[..., Server]) -> None:
    ready.write_rows(1000)
    data = ready.input.read_bytes()

    def decide(arrival: Arrival) -> None:
        if arrival.row == 0 and arrival.nth == 1:
            ready.input.write_bytes(data[: len(data) // 2])
            until(lambda: "stopping: " in ready.log, "the change is found")

    witness = server(decide)
    ready.configure(witness.url)
    done = ready.run("--set", "provider.timeout_s=60")
    assert done.code == 5, done.err
    assert "changed while the run was going on" in done.err
    assert "billed twice" not in done.err
    ready.input.write_bytes(data)
    assert ready.run().code == 0
    assert (len(ready.lines), set(witness.counts.values())) == (1000, {1})


def test_two_supervisors_on_one_run_directory(ready: Place, simulator: Callable[..., Witness]) -> None:
    witness = simulator(latency_ms=120)
    ready.write_rows(300)
    ready.configure(witness.url)
    first = ready.start()
    until(lambda: witness.stats()["requests"] > 0, "a request")
    second = ready.run()
    assert (second.code, second.out, len(second.lines)) == (5, "", 1), second.err
    assert f"process {first.pid}" in second.err
    assert first.wait().code == 0
    assert len(ready.lines) == 300
    assert witness.stats()["requests"] == 300


def test_no_rows_are_an_empty_output(ready: Place) -> None:
    ready.input.write_bytes(b"")
    done = ready.run()
    assert (done.code, done.out) == (0, ""), done.err
    assert ready.output.read_bytes() == b""
    assert (ready.report["rows"], ready.report["finished"]) == (0, True)
    assert json.loads((ready.run_dir / "manifest.json").read_bytes())["finished"]["output_bytes"] == 0
    assert ready.run().code == 0
