"""How the command behaves: bare, misspelt, completed by a shell, and where a file is no TOML."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rowmill
from rowmill.core.errors import ExitCode
from rowmill.interface import cli
from rowmill.interface.cli import arguments, suggestions

ROOT = Path(rowmill.__file__).parents[1]


def answered(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(line))
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_the_bare_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = answered(capsys, "")
    assert (code, out) == (ExitCode.USAGE, "")
    assert answered(capsys, "--help") == (0, err, "")
    assert answered(capsys, "help") == (0, err, "")
    assert answered(capsys, "help map") == answered(capsys, "map --help")
    assert answered(capsys, "-V") == answered(capsys, "--version")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("resume", "did you mean rowmill run?"),
        ("chek", "did you mean rowmill check?"),
        ("validate c.toml", "did you mean rowmill check?"),
        ("estimate", "did you mean rowmill plan?"),
        ("-q simulater", "did you mean rowmill simulate?"),
        ("version", "did you mean rowmill --version?"),
        ("generate-shell-completion bash", "did you mean rowmill completion?"),
        ("run --limt 5", "did you mean --limit?"),
        ("run --overwrite", "did you mean --fresh?"),
        ("run --temperature 0.2", "did you mean --set task.params.temperature=0.2?"),
        ("run --temperature=0.2", "did you mean --set task.params.temperature=0.2?"),
        ("run --rpm 500 c.toml", "did you mean --set provider.requests_per_minute=500?"),
        ("run --output.path x.csv", "did you mean --set output.path=x.csv?"),
        ("run --dry-run", "did you mean rowmill plan?"),
        ("map r.csv --max-tokens 9", "did you mean --set task.params.max_tokens=9?"),
        ("map r.csv --system-prompt x", "did you mean --system?"),
        ("map r.csv --api-key x", "did you mean --api-key-env?"),
        ("simulate --reqests-per-minute 3", "did you mean --requests-per-minute?"),
    ],
)
def test_what_was_meant_is_suggested(capsys: pytest.CaptureFixture[str], line: str, hint: str) -> None:
    code, out, err = answered(capsys, line)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("usage: rowmill")
    assert hint in err.splitlines()[-1]


@pytest.mark.parametrize("line", ["xyzzy", "run --xyzzy", "cancel --xyzzy 5"])
def test_what_nobody_can_tell_is_not_guessed(capsys: pytest.CaptureFixture[str], line: str) -> None:
    code, _, err = answered(capsys, line)
    assert (code, "did you mean" in err) == (ExitCode.USAGE, False)


def test_all_that_is_suggested_is_there() -> None:
    commands = arguments.with_all_flags(arguments.parser())
    assert set(suggestions._COMMANDS) <= set(commands)
    flags = {flag for command in commands.values() for flag in command._option_string_actions} | {"--version"}
    assert set(suggestions._FLAGS) <= flags


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[input\n", ["  1 | [input", "    |       ^"]),
        ('[task]\nmodel = "m"\nprompt = "a\nb"\n', ['  2 | model = "m"', '  3 | prompt = "a', "    |            ^"]),
        ("".join(f"a{n} = 1\n" for n in range(11)) + "b = = 2", ["  11 | a10 = 1", "  12 | b = = 2", "     |     ^"]),
        ("[task]\nprompt = '''abc", ["  1 | [task]", "  2 | prompt = '''abc", "    |                ^"]),
    ],
)
def test_a_file_that_is_no_toml_is_shown_where(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, shown: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text(text)
    code, out, err = answered(capsys, "run broken.toml")
    assert (code, out) == (ExitCode.USAGE, "")
    first, *rest = err.splitlines()
    assert first.startswith("rowmill: broken.toml: not valid TOML: ")
    assert rest == shown


def test_a_long_line_is_shown_around_the_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.toml").write_text(f'a = "{"x" * 5000}" oops \x1b[31m\n')
    err = answered(capsys, "run broken.toml")[2]
    assert all(len(line) < 120 for line in err.splitlines())
    assert "\x1b" not in err
    caret, line = err.splitlines()[-1], err.splitlines()[-2]
    assert line[caret.index("^") :].startswith("oops")


@pytest.mark.parametrize(
    ("line", "words"),
    [("rowmill ru", ["run"]), ("rowmill map --sch", ["--schema"]), ("rowmill simulate --lat", ["--latency-ms"])],
)
def test_bash_completes_commands_and_flags(tmp_path: Path, line: str, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rowmill", "completion", "bash"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (tmp_path / "script").write_text(done.stdout)
    typed = shlex.join(line.split())
    program = (
        f"source ./script; COMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
        'complete -p rowmill >/dev/null; _shtab_rowmill; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=20
    )
    assert set(words) <= set(bash.stdout.split()), bash.stderr


def test_zsh_and_tcsh_have_a_script_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for shell in ("zsh", "tcsh"):
        code, out, err = answered(capsys, f"completion {shell}")
        assert (code, err) == (0, "")
        assert "rowmill" in out
        if program := shutil.which(shell):
            (tmp_path / shell).write_text(out)
            subprocess.run([program, "-n", str(tmp_path / shell)], check=True, timeout=20)
