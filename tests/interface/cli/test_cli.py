"""The command line: what it says of itself, what it refuses, and that it is light enough for every worker to import."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import rowmill
from rowmill.core.errors import ExitCode
from rowmill.core.simulator import SimulatorSettings
from rowmill.interface import cli
from rowmill.interface.cli import recipes

ROOT = Path(rowmill.__file__).parents[1]
COMMANDS = ("run", "retry", "map", "check", "plan", "cancel", "runs", "clean", "init", "simulate", "completion")


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; give back its exit code, stdout and stderr."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def imported_by(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)
    return set(done.stdout.split())


@pytest.fixture
def no_endless_service() -> Iterator[None]:
    """Interrupt a simulator that serves where it should have refused."""
    interrupt = threading.Timer(10, os.kill, (os.getpid(), signal.SIGINT))
    interrupt.start()
    yield
    interrupt.cancel()


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_is_data_and_names_what_there_is(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = answered(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.startswith("usage: rowmill")
    expected = {
        "--help": [*COMMANDS, "--version"],
        "run": ["CONFIG", "--set", "--salvage", "--limit", "--sample", "--json"],
        "retry": ["CONFIG", "--set", "--salvage", "--json"],
        "map": ["ROWS", "--model", "--prompt", "--output", "--schema", "--save", "--set", "--limit", "examples:"],
        "check": ["CONFIG", "--set", "--no-request", "--json"],
        "plan": ["CONFIG", "--sample-live", "--json"],
        "cancel": ["CONFIG", "--set"],
        "runs": ["DIR", "--json"],
        "clean": ["RUN", "--all", "--dry-run", "--set"],
        "completion": ["SHELL", "bash", "zsh"],
        "init": ["--recipe", "DIR"],
        "simulate": ["--port", "--fault", "--content-fault"],
    }
    for word in expected[arguments[0]]:
        assert word.lower() in out.lower()


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        out = answered(capsys, command, "--help")[1]
        options = out.partition("options:")[2].partition("exit codes:")[0]
        for option in re.split(r"\n  (?=-)", options)[1:]:
            assert re.search(r"\S\s{2,}\S", option.strip()), f"{option!r} has no help"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["retry", "--help"]])
def test_the_exit_codes_of_the_help_are_the_exit_codes(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    table = answered(capsys, *arguments)[1].partition("exit codes:")[2]
    assert sorted(int(code) for code in re.findall(r"(?:^|\s\s)(\d+)  \w", table)) == sorted(ExitCode)
    assert "all but 2 can be resumed" in table


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert answered(capsys, "--version") == (0, f"rowmill {rowmill.core.version.__version__}\n", "")


def test_python_m_engine_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "rowmill", "--version"], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"rowmill {rowmill.core.version.__version__}\n".encode())


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["run", "a.toml", "b.toml"], ["run", "--frobnicate"], ["run", "--set"], ["simulate", "extra"],
     ["run", "--limit", "0"], ["run", "--sample", "few"], ["run", "--limit", "5", "--sample", "5"],
     ["retry", "--limit", "5", "--sample", "5"], ["init", "a", "b"], ["init", "--recipe"]],
)  # fmt: skip
def test_a_command_line_that_means_nothing_is_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = answered(capsys, *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "usage: rowmill" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["absent.toml"], "absent.toml: no such file; name a configuration"),
        ([], "config.toml: no such file"),
        (["good.toml"], "in.jsonl: no such file; set input.path"),
        (["good.toml", "--set", "workers"], "--set workers: write it as section.key=value"),
        (["good.toml", "--set", "workers.cuont=2"], "unknown key workers.cuont; did you mean workers.count?"),
        (["good.toml", "--set", "simulator.faults.resett=0.1"], "did you mean 'reset'"),
    ],
)
def test_a_run_that_cannot_start_is_one_line_on_stderr_and_leaves_no_file(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text("[input\n")
    (tmp_path / "good.toml").write_text(
        '[input]\npath = "in.jsonl"\n[task]\nmodel = "m"\nprompt = "{a}"\n[output]\npath = "out.jsonl"\n'
        '[[provider]]\nbase_url = "simulator"\n'
    )
    if said.startswith("did you"):
        (tmp_path / "in.jsonl").write_text('{"a":"x"}\n')
    before = sorted(tmp_path.iterdir())
    code, out, err = answered(capsys, "run", *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert said in err
    assert err.startswith("rowmill: ")
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "65536"], "'65536' is no port"),
        (["--port", "-1"], "'-1' is no port"),
        (["--port", "http"], "'http' is no port"),
        (["--latency-ms", "-5"], "'-5' is no number of 0 or more"),
        (["--latency-ms", "nan"], "'nan' is no number of 0 or more"),
        (["--latency-sigma", "inf"], "'inf' is no number of 0 or more"),
        (["--hang-s", "-1"], "'-1' is no number of 0 or more"),
        (["--fault", "500"], "--fault 500: write it as NAME=SHARE"),
        (["--fault", "500=often"], "--fault 500=often: write it as NAME=SHARE"),
        (["--fault", "=0.5"], "--fault =0.5: write it as NAME=SHARE"),
        (["--fault", "resett=0.5"], "did you mean 'reset'"),
        (["--content-fault", "prose"], "--content-fault prose: write it as NAME=SHARE, for example extra-prose=0.05"),
        (["--content-fault", "extra-prosa=0.5"], "did you mean 'extra-prose'"),
        (["--fault", "500=2"], "must be from 0 to 1"),
        (["--fault", "500=0.6", "--fault", "429=0.6"], "above 1"),
        (["--script", "ok,whatever"], "unknown fault 'whatever'"),
        (["--batch-script", "ok,expire"], "did you mean 'expired'"),
        (["--upload-script", "upload_slow"], "seconds must follow"),
        (["--batch-fault", "missing"], "--batch-fault missing: write it as NAME=SHARE, for example missing=0.01"),
        (["--batch-fault", "mising=1"], "did you mean 'missing'"),
        (["--batch-enqueued-tokens", "0"], "batch_enqueued_tokens must be at least 1"),
        (["--requests-per-minute", "0"], "must be above 0"),
        (["--tokens-per-minute", "nan"], "must be above 0"),
        (["--per-token-ms", "-1"], "'-1' is no number of 0 or more"),
        (["--reply-tokens", "inf"], "'inf' is no number of 0 or more"),
        (["--parallel", "0"], "parallel must be at least 1"),
        (["--parallel", "8", "--queue", "-1"], "queue must be at least 0"),
        (["--queue", "8"], "queue needs parallel"),
        (["--knee", "nan"], "knee must be at least 1"),
        (["--seed", "x"], "invalid int value"),
    ],
)
@pytest.mark.usefixtures("no_endless_service")
def test_a_simulator_that_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = answered(capsys, "simulate", *arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert said in err
    assert err.splitlines()[-1].startswith("rowmill simulate: ")


def test_every_setting_of_the_simulator_has_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[SimulatorSettings] = []
    monkeypatch.setattr("rowmill.simulator.server.serve", lambda settings, **_: served.append(settings))
    wanted = SimulatorSettings(
        latency_ms=1, latency_sigma=2, per_token_ms=3, reply_tokens=4, requests_per_minute=5, tokens_per_minute=6,
        parallel=7, queue=8, knee=9, limit_headers=False, retry_after=False, faults={"500": 0.5},
        content_faults={"extra-prose": 0.25}, script=("ok", "429"), refuse=("whole",), batch_s=12, batches=False,
        batch_script=("ok", "expired"), upload_script=("upload_500",), batch_faults={"missing": 0.5},
        batch_enqueued_tokens=13, state="s", hang_s=10, seed=11,
    )  # fmt: skip
    flags = (
        "--latency-ms 1 --latency-sigma 2 --per-token-ms 3 --reply-tokens 4 --requests-per-minute 5 "
        "--tokens-per-minute 6 --parallel 7 --queue 8 --knee 9 --no-limit-headers --no-retry-after --fault 500=0.5 "
        "--content-fault extra-prose=0.25 --script ok,429 --refuse whole --batch-s 12 --no-batches --batch-script "
        "ok,expired --upload-script upload_500 --batch-fault missing=0.5 --batch-enqueued-tokens 13 --state s "
        "--hang-s 10 --seed 11"
    )
    for arguments in (flags.split(), []):
        with pytest.raises(SystemExit) as ended:
            cli.main(["simulate", *arguments])
        assert ended.value.code == ExitCode.OK
    assert served == [wanted, SimulatorSettings()]
    # Only `providers` is left to the configuration: it is a table of tables.
    default = SimulatorSettings()
    assert [key for key in wanted.__struct_fields__ if getattr(wanted, key) == getattr(default, key)] == ["providers"]


def test_simulate_prints_its_url_serves_and_ends_with_the_interrupt() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "rowmill", "simulate", "--latency-ms", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", url)
        with urllib.request.urlopen(f"{url}/models", timeout=10) as response:  # a URL that it printed itself
            assert response.status == 200
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, b"", b"")


def test_a_port_in_use_is_said_in_one_line() -> None:
    command = [sys.executable, "-m", "rowmill", "simulate", "--port"]
    with subprocess.Popen([*command, "0"], cwd=ROOT, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        port = first.stdout.readline().decode().rpartition(":")[2].partition("/")[0]
        second = subprocess.run([*command, port], cwd=ROOT, capture_output=True, check=False, timeout=20)
        first.terminate()
    assert second.returncode == ExitCode.USAGE
    assert second.stderr.startswith(b"rowmill simulate: ")
    assert second.stderr.count(b"\n") == 1


def test_recipes_are_listed_as_data_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answered(capsys, "init")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == recipes.names()
    assert "Labelling: " in out


def test_init_writes_into_the_directory_and_says_what_is_next(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "new" / "labels"
    code, out, err = answered(capsys, "init", "--recipe", "labelling", str(target))
    assert (code, out) == (0, "")
    assert sorted(path.name for path in target.iterdir()) == ["config.toml", "schema.json", "tickets.csv"]
    assert f"cd {target} && rowmill run" in err
    code, out, err = answered(capsys, "init", "--recipe", "labelling", str(target))
    assert (code, out, err.count("\n")) == (ExitCode.USAGE, "", 1)
    assert "config.toml exists, and nothing was written" in err


def test_a_recipe_that_is_not_there_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = answered(capsys, "init", "--recipe", "labeling")
    assert (code, out, err) == (ExitCode.USAGE, "", "rowmill: no recipe is named 'labeling'; did you mean labelling?\n")
    assert not list(tmp_path.iterdir())


def test_a_retry_of_what_has_not_run_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answered(capsys, "init", "--recipe", "extraction")
    before = sorted(tmp_path.iterdir())
    code, out, err = answered(capsys, "retry", "--json")
    assert (code, out) == (ExitCode.RUN_DIRECTORY, "")
    assert "holds no run" in err
    assert sorted(tmp_path.iterdir()) == before


def test_the_command_line_imports_nothing_heavy() -> None:
    """`--help` should not wait."""
    modules = imported_by("import rowmill.interface.cli, rowmill.__main__\nrowmill.interface.cli.parser()")
    assert "rowmill.interface.cli" in modules
    heavy = {
        "rich",
        "openai",
        "httpx2",
        "aiohttp",
        "httptools",
        "uvloop",
        "msgspec",
        "psutil",
        "asyncio",
        "multiprocessing",
    }
    assert not heavy & {name.partition(".")[0] for name in modules}


HEAVY = {
    *("openai", "httpx2", "aiohttp", "pydantic", "rich", "pyarrow", "numpy", "pandas", "polars", "ray", "fsspec"),
    *("jinja2", "jsonschema_rs", "genai_prices", "sqlite3", "email", "html", "http", "xml"),
}


def test_the_supervisor_imports_neither_clients_nor_servers_nor_a_loop() -> None:
    """`openai` alone takes longer to import than a small run."""
    modules = imported_by("import rowmill.runs.session, rowmill.interface.ui.progress, rowmill.interface.ui.report")
    heavy = {*HEAVY, "asyncio", "uvloop", "ssl", "logging", "httptools", "aiofiles", "tenacity"}
    assert not heavy & {name.partition(".")[0] for name in modules}
    assert not {
        name for name in modules if name.startswith(("rowmill.worker", "rowmill.simulator.", "rowmill.cluster"))
    }


def test_a_cancellation_imports_the_types_that_it_names_alone() -> None:
    """All of them, over four hundred modules, are half of what it takes."""
    modules = imported_by("import rowmill.runs.cancel")
    assert "openai" in modules
    assert len([name for name in modules if name.startswith("openai.types")]) < 100


def test_a_worker_imports_neither_the_openai_package_nor_a_server_nor_what_finds_the_input() -> None:
    modules = imported_by("import rowmill.worker.live.process, rowmill.transport.direct")
    heavy = {*HEAVY, "psutil", "csv", "tomllib", "difflib", "tenacity"}
    assert not heavy & {name.partition(".")[0] for name in modules}
    above = ("rowmill.supervisor", "rowmill.runs", "rowmill.simulator.", "rowmill.files.input.inputs")
    assert not {name for name in modules if name.startswith(above)}
