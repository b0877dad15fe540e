"""`rowmill map` before anything is asked: what its flags mean, how rows of a pipe are taken, and what is refused."""

import itertools
import os
import shlex
import time
import tomllib
from pathlib import Path

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.errors import ExitCode, InputError, MachineError
from rowmill.interface import cli
from rowmill.runs import piped, piped_rows
from rowmill.runs.preparation import prepare
from rowmill.store.run_directory import RunDirectory

OF_ROWS = "-m m -o out.jsonl --base-url simulator"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "rows.csv").write_text("title,price\nkettle,3\n")
    (tmp_path / "rows.jsonl").write_text('{"title": "kettle"}\n')
    (tmp_path / "latin.txt").write_bytes("é {title}".encode("latin-1"))
    (tmp_path / "wide.txt").write_text("é\n", encoding="utf-16")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """Run a command in this process that is refused; give back its one line."""
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(line))
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (ExitCode.USAGE, "", 1), err
    return str(err)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"map rows.csv {OF_ROWS}", "-p (task.prompt): is missing"),
        ("map rows.csv -p {title} -o out.jsonl", "-m (task.model): is missing"),
        ("map rows.csv -p {title} -m m -o out.jsonl", "no API key: set the environment variable OPENAI_API_KEY"),
        (f"map rows.csv -p {{titel}} {OF_ROWS}", "no column 'titel', which task.prompt names; did you mean 'title'? "),
        (f"map rows.csv -p '{{\"a\": 1}} {{title}}' {OF_ROWS}", "write {column}, and {{ and }} for plain braces"),
        (f"map rows.csv -p '{{title' {OF_ROWS}", "-p (task.prompt): expected '}' before end of string"),
        (f"map gone.csv -p {{title}} {OF_ROWS}", "gone.csv: no such file"),
        (f"map rows.csv -p {{title}} {OF_ROWS} --schema '{{\"a\"'", "--schema: no JSON"),
        (f"map rows.csv -p {{title}} {OF_ROWS} --schema gone.json", "--schema (task.schema): gone.json: no such file"),
        (f"map rows.csv -p {{title}} {OF_ROWS} --set task.params=1", "expected object"),
        ("map rows.csv -p {title} -m m -o out.xyz --base-url simulator", "out.xyz"),
        ("map rows.csv -p {title} -m m --to parquet", "Parquet cannot be written as rows come; name a file by -o"),
        ("map rows.csv -p {title} -m m --json", "name a file by -o"),
        ("map rows.csv -p {title} -m m --save c.toml", "--save: results that go to stdout are none"),
        ("map - -p {title} -m m -o out.csv --save c.toml", "--save: rows from a pipe are none"),
        ("map rows.txt -p {text} -m m -o out.csv --save c.toml", "--save: lines of text are none"),
        ("map rows.csv -p {title} -m m -o rows.csv", "rows.csv"),
        (f"map rows.csv -p @gone.txt {OF_ROWS}", "-p @gone.txt: No such file or directory; name a file with the text"),
        (f"map rows.csv -p @latin.txt {OF_ROWS}", "-p @latin.txt: is no UTF-8 text"),
        (
            f"map rows.csv -p {{title}} {OF_ROWS} --include inputs",
            "--include (output.include)[0]: 'inputs' is none",
        ),
        ("map gone.csv -p {title} -m m", "rowmill: gone.csv: no such file; set ROWS to the file"),
        ("map rows.csv -p {title} -m m -o out.txt", "or set --to"),
        (f"map '*.jsonl' -p {{title}} {OF_ROWS}", "out.jsonl would itself be a file of the input, *.jsonl; "),
        ("map wide.txt -p {text} -m m", 'wide.txt: is UTF-16; set input.encoding = "utf-16"'),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words_of_the_flags(
    capsys: pytest.CaptureFixture[str], folder: Path, line: str, said: str
) -> None:
    before = sorted(folder.iterdir())
    assert said in refused(capsys, line)
    assert sorted(folder.iterdir()) == before


def test_an_output_that_exists_is_not_written_over(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "out.jsonl").write_text("of somebody\n")
    err = refused(capsys, f"map rows.csv -p {{title}} {OF_ROWS}")
    assert "out.jsonl exists and is not of this run; move it away, or choose another path" in err
    assert (folder / "out.jsonl").read_text() == "of somebody\n"


@pytest.mark.parametrize(
    ("name", "content", "typed"),
    [
        ("rows.csv", "title,price\nkettle,3\n", "rowmill map rows.csv -m MODEL -p '... {title}' -o rows.answers.csv"),
        ("a b.jsonl", '{"q": 1}\n', "rowmill map 'a b.jsonl' -m MODEL -p '... {q}' -o 'a b.answers.jsonl'"),
        ("lines.txt", "one\ntwo\n", "rowmill map lines.txt -m MODEL -p '... {text}' -o lines.answers.jsonl"),
        ("table.json", '[{"q": 1}]', "rowmill map table.json -m MODEL -p '... {q}' -o table.answers.jsonl"),
    ],
)
def test_rows_in_the_place_of_a_configuration_are_told_what_to_type(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str, content: str, typed: str
) -> None:
    (folder / name).write_text(content)
    for command in ("run", "plan", "retry"):
        err = refused(capsys, f"{command} '{name}'")
        assert f"{name} holds rows, and is no configuration. To ask about each row: {typed}\n" in err


def test_a_configuration_that_is_none_is_not_taken_for_rows(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "config").write_text("[input\n")
    with pytest.raises(SystemExit):
        cli.main(["run", "config"])
    assert "not valid TOML" in capsys.readouterr().err


def test_what_is_saved_is_the_configuration_of_the_flags(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    prompt = 'Two lines,\n"quoted" \'so\' \\ {{"k": "{title}"}} é'
    words = [
        "map", "rows.csv", "-m", "m", "-p", prompt, "-o", "out.jsonl", "--schema", '{"type": "object"}', "--id",
        "title", "--include", "input,meta", "--include", "message", "--max-usd", "2.5", "--set",
        "task.params.temperature=0", "--save", "config.toml",
    ]  # fmt: skip
    for _ in range(2):  # the same command goes on, and finds its own file
        with pytest.raises(SystemExit):
            cli.main(words)
        assert "no API key" in capsys.readouterr().err
    saved = configuration.load(folder / "config.toml")
    assert saved.task.prompt == prompt
    assert (saved.task.schema, saved.task.params) == ({"type": "object"}, {"temperature": 0})
    assert (saved.input.path, saved.input.id, saved.output.path) == ("rows.csv", "title", "out.jsonl")
    assert (saved.output.include, saved.budget.max_usd) == (["input", "meta", "message"], 2.5)
    assert set(tomllib.loads((folder / "config.toml").read_text())) == {"input", "task", "output", "budget"}
    assert "config.toml exists and says something else" in refused(capsys, shlex.join([*words, "--from", "csv"]))


def asking(prompt: str, encoding: str = "auto", **keys: object) -> Config:
    tree = {
        "input": {"path": "x", "encoding": encoding},
        "task": {"model": "m", "prompt": prompt, **keys},
        "output": {"path": "y.jsonl"},
    }
    return configuration.parse(tree, "test")


@pytest.mark.parametrize(
    ("rows", "prompt", "format_"),
    [
        ("title,price\nkettle,3\n", "{title}", "csv"),
        ("title\tprice\nkettle\t3\n", "{price}", "csv"),
        ("title;price\n", "{title}", "csv"),
        ("title\nkettle\n", "{title}", "csv"),  # one column, and it is asked for
        ("kettle\nlamp\n", "{text}", "text"),
        ("Hello, you\nGood day, all\n", "{text}", "text"),  # looks like a table of two columns
        ("text\nkettle\n", "{text}", "csv"),
        ("text,label\nkettle,a\n", "{text}", "csv"),
        ("1\n2\n3\n", "Tell a joke", "text"),
        ("a,b\n1,2\n", "Tell a joke", "csv"),
        ('{"title": "kettle"}\n', "{title}", "auto"),
        ('[{"title": "kettle"}]', "{title}", "auto"),
        ("PAR1...", "{title}", "auto"),
        ("", "{title}", "text"),
        ('"quoted, line"\nother\n', "{text}", "text"),
    ],
)
def test_rows_of_a_pipe_are_what_the_prompt_asks_for(folder: Path, rows: str, prompt: str, format_: str) -> None:
    (folder / "spooled").write_text(rows)
    assert piped_rows.format_of_rows(folder / "spooled", asking(prompt), "stdin") == format_


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("title,price\n", "stdin: no column 'titel'; its first line is title, price; did you mean {title}?"),
        ("kettle\nlamp\n", "its first line is kettle; lines of text have the one column {text}"),
    ],
)
def test_a_column_that_a_pipe_does_not_have_is_refused(folder: Path, rows: str, said: str) -> None:
    (folder / "spooled").write_text(rows)
    with pytest.raises(InputError) as caught:
        piped_rows.format_of_rows(folder / "spooled", asking("{titel}"), "stdin")
    assert said in str(caught.value)


def test_each_line_of_a_text_is_a_row_and_keeps_its_number(folder: Path) -> None:
    """One that nothing has ended may go on, and its row is not ended either."""
    path = folder / "lines.txt"
    path.write_bytes(b'\xef\xbb\xbfone\r\nt"wo, \\\n\n \xc3\xa9 \nlast')
    rows = b"".join(piped_rows.text_rows(path, "utf-8", "lines.txt"))
    assert rows.decode() == '{"text":"one"}\n{"text":"t\\"wo, \\\\"}\n\n{"text":" é "}\n{"text":"last"}'
    path.write_bytes(b"one\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"lines.txt: line 2 is not utf-8 text; set input.encoding"):
        list(piped_rows.text_rows(path, "utf-8", "lines.txt"))
    assert b"".join(piped_rows.text_rows(path, "cp1252", "")) == '{"text":"one"}\n{"text":"café"}\n'.encode()


def test_the_same_rows_with_the_same_question_are_the_same_job() -> None:
    config = asking("{a}")
    job = piped.job_of(config, b"rows", (None, None))
    assert job.path == piped.job_of(config, b"rows", (None, None)).path
    others = [
        piped.job_of(config, b"other", (None, None)),
        piped.job_of(config, b"rows", (5, None)),
        piped.job_of(asking("{a} "), b"rows", (None, None)),
        piped.job_of(asking("{a}", params={"seed": 1}), b"rows", (None, None)),
    ]
    assert len({each.path for each in [job, *others]}) == 5
    assert job.path.parent == Path(os.environ["HOME"]) / ".cache/rowmill/pipes"


def test_another_question_into_the_same_file_is_told_with_the_whole_command(
    capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    tree = {
        "input": {"path": "rows.csv"},
        "task": {"model": "m", "prompt": "Say {title}"},
        "output": {"path": "out.csv"},
        "provider": [{"base_url": "http://127.0.0.1:9/v1"}],
    }
    prepare(configuration.parse(tree, "test"), {}).directory.close()
    words = ["map", "rows.csv", "-m", "m", "-p", "It's {title}", "-o", "out.csv", "--base-url", "http://127.0.0.1:9/v1"]
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    err = capsys.readouterr().err
    assert (ended.value.code, err.count("\n")) == (ExitCode.RUN_DIRECTORY, 1)
    assert 'task.prompt: "Say {title}" -> "It\'s {title}"' in err
    assert err.endswith(f"with what there is kept aside: rowmill {shlex.join(words)} --fresh\n")


def test_lines_are_read_once_by_their_encoding(folder: Path) -> None:
    for name in ("cp1252", "utf-16", "utf-8"):
        (folder / "lines").write_bytes("café\n\nthé\r\n".encode(name))
        rows = b"".join(piped_rows.text_rows(folder / "lines", name, "stdin"))
        assert rows == '{"text":"café"}\n\n{"text":"thé"}\n'.encode()
    (folder / "lines").write_text('{"a": 1}\n', encoding="utf-16")
    config = asking("{a}", encoding="utf-16")
    assert piped_rows.format_of_rows(folder / "lines", config, "stdin") == "auto"
    with pytest.raises(InputError, match="stdin: is UTF-16"):
        piped_rows.format_of_rows(folder / "lines", asking("{a}"), "stdin")


NEVER = b"never wanted\n"


@pytest.mark.parametrize(
    ("rows", "prompt", "wanted"),
    [
        (["one", "two", "three"], "{text}", 2),
        (["", "\ufeffone", " ", "two", "three"], "{text}", 4),
        (['say "hm', "two", "three"], "{text}", 2),
        (['{"a":1}', '{"a":"\\""}', '{"a":3}'], "{a}", 2),
        (['{"a":', '{"a":2}', '{"a":3}'], "{a}", 2),
        (["a,b", "1,2", "3,4", "5,6"], "{b}", 3),
        (["a", "1", "2", "3"], "{a}", 3),
        (["b,a", '1,"x', "", 'y"', "", '"3 ""a""",4', "5,6"], "{b}", 6),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_of_a_pipe_no_more_is_read_than_its_first_rows(rows: list[str], prompt: str, wanted: int, size: int) -> None:
    data = "".join(f"{row}\n" for row in rows).encode()
    blocks = iter([data[at : at + size] for at in range(0, len(data), size)])
    endless = itertools.chain(blocks, itertools.repeat(NEVER))
    read = b"".join(piped_rows.first_rows(endless, 2, asking(prompt), "stdin", text=False))
    assert read.decode() == "".join(f"{row}\n" for row in rows[:wanted])
    assert next(endless) in {NEVER, *(data[at : at + size] for at in range(0, len(data), size))}


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b'[{"a": 1},\n{"a": 2},\n{"a": 3}]\n', "{a}"),
        (b'{\n "a":\n 1}\n', "{a}"),
        (b"PAR1\n\n\n\n\0", "{a}"),
        (b"\x1f\x8b\n\n\n\n\0", "{a}"),
        ("a\nb\nc\nd\n".encode("utf-16"), "{text}"),
        (b"one\ntwo", "{text}"),
        (b"one", "{text}"),
        (b"\n \n", "{text}"),
        (b"", "{text}"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_where_a_row_is_no_line_all_of_a_pipe_is_read(data: bytes, prompt: str, size: int) -> None:
    blocks = iter([data[at : at + size] for at in range(0, len(data), size)])
    assert b"".join(piped_rows.first_rows(blocks, 2, asking(prompt), "stdin", text=False)) == data


def test_a_quote_that_nothing_ends_hides_line_breaks_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped_rows, "_LONGEST", 100)
    endless = itertools.chain([b'a,b\n1,"x\n'], itertools.repeat(b"3,4\n"))
    read = b"".join(piped_rows.first_rows(endless, 3, asking("{b}"), "stdin", text=False))
    assert 100 <= len(read) < 120


def test_lines_of_a_pipe_that_are_said_to_be_text_are_counted_as_such() -> None:
    endless = itertools.repeat(b'{"a":\n')
    assert b"".join(piped_rows.first_rows(endless, 3, asking("{text}"), "stdin", text=True)) == b'{"a":\n' * 3
    with pytest.raises(InputError, match="no column 'titel'"):
        list(piped_rows.first_rows(itertools.repeat(b"title,b\n"), 3, asking("{titel}"), "stdin", text=False))


def test_a_pipe_without_an_end_does_not_fill_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piped, "_LOOK", 10)
    assert piped.spooled(iter([b"y\n"] * 20), folder / "pipes", 0).size == 40
    with pytest.raises(MachineError, match=r"has not ended after 0 MB, and \S+/full is nearly full; end the"):
        piped.spooled(itertools.repeat(b"y\n"), folder / "full", 1 << 40)
    assert list((folder / "full").iterdir()) == []


def test_what_nobody_comes_back_for_is_removed_after_a_month(folder: Path) -> None:
    base = folder / "pipes"
    for name in ("old", "new", "busy"):
        (base / name / "run").mkdir(parents=True)
    (base / ".rows-left").write_text("of a process that was killed")
    (base / ".rows-now").write_text("of one that reads")
    (base / "locked" / "run").mkdir(parents=True)
    held = RunDirectory.open(base / "locked" / "run")
    (base / "elsewhere").symlink_to(folder)
    month_ago = time.time() - 31 * 86_400
    for name in ("old/run", "old", "busy/run", "busy", "locked/run", "locked"):
        os.utime(base / name, (month_ago, month_ago))
    os.utime(base / ".rows-left", (time.time() - 90_000,) * 2)
    (base / "busy" / "run" / "run.log").write_text("at work\n")
    assert piped.prune(base) == [base / ".rows-left", base / "old"]
    assert sorted(path.name for path in base.iterdir()) == [".rows-now", "busy", "elsewhere", "locked", "new"]
    # Nor does another process remove what one has just begun.
    assert [piped.PipedJob(base / name).begun() for name in ("locked", "new")] == [True, False]
    held.close()
    assert piped.prune(folder / "none") == []
