"""What the README and the commented configuration say is tried: an example that does not work is worse than none.

So are the files, modules and commits that any page names; what `docs/ARCHITECTURE.md` shows beside is in `test_docs`.
"""

import json
import os
import pkgutil
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

import rowmill
from rowmill.core import config
from rowmill.core.config.reading import SECTIONS
from rowmill.core.errors import ExitCode
from rowmill.core.wire import Answer, Failure
from rowmill.interface.cli import arguments, simulator_flags
from rowmill.interface.ui import plan_text as plans
from rowmill.runs.plan import plan
from rowmill.simulator.batches import words as batch_words
from rowmill.simulator.faults import FaultPlan
from rowmill.store.output_lines import failure_line, result_line
from rowmill.transport import faults

PACKAGE = Path(rowmill.__file__).parent
ROOT = PACKAGE.parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
CONFIG = ROOT / "config.toml"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONTRIBUTING = ROOT / "docs" / "CONTRIBUTING.md"

# A word of code is a file of the repository if it begins with one of these and a slash, or ends so.
FOLDERS = {".ci", "docs", "engine", "scripts", "tests", *(path.name for path in PACKAGE.iterdir() if path.is_dir())}
SUFFIXES = (".md", ".py", ".toml")


def blocks(*kinds: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind in kinds]


def commands() -> list[list[str]]:
    """Every command line of the shell examples, as words."""
    lines = "\n".join(blocks("sh", "bash", "console", "shell")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line.removeprefix("$ "), comments=True))]


def keys_in(text: str) -> list[tuple[str, str]]:
    """Every `key = value` of a configuration as ("section.key", value), the commented-out ones included."""
    found, section = [], ""
    for line in text.splitlines():
        if heading := re.match(r"\[+(\w+)\]+", line):
            section = heading[1]
        elif entry := re.match(r"(?:# )?([a-z_]+) = (.+)$", line):
            found.append((f"{section}.{entry[1]}", entry[2]))
    return found


def test_there_are_examples_of_each_kind() -> None:
    assert blocks("toml")
    assert any(words[0] == "rowmill" for words in commands())
    assert "PLACEHOLDER" not in README


@pytest.mark.parametrize("number", range(len(blocks("toml"))))
def test_every_configuration_of_the_readme_loads(tmp_path: Path, number: int) -> None:
    path = tmp_path / "config.toml"
    path.write_text(blocks("toml")[number], encoding="utf-8")
    config.load(path)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_readme_is_understood(words: list[str]) -> None:
    if words[0] != "rowmill":
        if words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), f"{words[0]} is no program of this repository"
        return
    options = arguments.parser().parse_args(words[1:])
    if words[1] in ("run", "plan", "cancel"):
        config.load(CONFIG, options.set)
    elif words[1] == "simulate":
        settings = simulator_flags.settings(options)
        FaultPlan(settings, Random(0))
        for item in settings.batch_script:
            batch_words.batch_script(item)
        for item in settings.upload_script:
            batch_words.upload_script(item)
        batch_words.line_faults(settings.batch_faults, Random(0))


def row_of(option: str) -> list[str]:
    """Return the words of an option of `rowmill simulate`, as their table lists them."""
    (line,) = re.findall(rf"^\| `{option}` \| (.*) \|$", README, re.MULTILINE)
    return re.findall(r"`([^`]+)`", line)


@pytest.mark.parametrize(
    ("option", "read"), [("--batch-script", batch_words.batch_script), ("--upload-script", batch_words.upload_script)]
)
def test_the_words_of_scripts_in_the_readme_are_all_that_there_are(option: str, read: Callable[[str], object]) -> None:
    words = row_of(option)
    for word in words:
        for written in (word.partition("[")[0], word.replace("[", "").replace("]", "")):
            read(written.replace("SHARE", "0.5").replace("SECONDS", "2").replace("CODE", "x").replace("=N", "=3"))
    with pytest.raises(ValueError, match="Known: ") as unknown:
        read("no such word")
    known = str(unknown.value).partition("Known: ")[2].split(", ")
    assert {re.split(r"[\[:]", word)[0] for word in words} == set(known)


def test_the_line_faults_of_the_readme_are_those_that_there_are() -> None:
    assert row_of("--batch-fault") == list(batch_words.LINE_FAULTS)


def test_the_checks_at_full_size_that_the_readme_names_are_there() -> None:
    named = re.findall(r"\(`([a-z-]+)`\)", README.partition("`scripts/prove` runs")[2])
    items = (ROOT / "scripts" / "proving" / "__main__.py").read_text(encoding="utf-8")
    assert {"lives", "plan", "cap", "batches", "batch-memory", "deadline"} <= set(named)
    assert [name for name in named if f'"{name}": ' not in items] == []


def test_the_plan_of_the_readme_is_one_as_it_is_printed(tmp_path: Path) -> None:
    (rows,) = [block for block in blocks("") if block.startswith("  input ")]
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": "a", "kind": "module", "name": "abc", "docstring": "Says what it is."}\n')
    printed = plans.text(plan(config.load(CONFIG, [f'input.path="{path}"'])))
    shown, real = (
        [re.sub(r"[\d.,]+[kM]?\b", "#", line) for line in lines.partition("  tokens ")[2].splitlines()]
        for lines in (rows, printed)
    )
    assert len(real) > 1
    assert shown == real


def test_the_output_lines_of_the_readme_have_the_members_of_real_ones() -> None:
    shown = [json.loads(line) for block in blocks("json") for line in block.splitlines() if line.startswith("{")]
    assert shown
    usage = b'{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'
    result = json.loads(result_line(0, b'"a"', Answer(b'"x"', b'"stop"', b'"m"', usage, 1, 1), b""))
    failed = json.loads(failure_line(0, b'"a"', Failure(fault=faults.TABLE["context_length"], message="m"), b""))
    for line in shown:
        real = result if line["error"] is None else failed
        assert list(line) == list(real)
        assert (line["error"] or {}).keys() == (real["error"] or {}).keys()
        assert line["error"] is None or line["error"]["class"] in faults.TABLE


def test_the_exit_codes_of_the_readme_are_the_exit_codes() -> None:
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", README.partition("| exit code |")[2], re.MULTILINE)]
    assert sorted(codes) == sorted(ExitCode)


def spans(page: Path) -> list[str]:
    """Return what stands between backticks in a page's text."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", text)


def words(page: Path) -> set[str]:
    """Return the words of a page that are code: in its text, and in blocks of their own."""
    fenced = re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return {word for text in (*spans(page), *fenced) for word in text.split()}


def is_path(word: str) -> bool:
    first, slash, _ = word.partition("/")
    whole = re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", word) is not None
    return whole and (word.endswith(SUFFIXES) or (slash == "/" and first in FOLDERS))


def missing(page: Path) -> list[str]:
    """Return the files and modules that a page names and that are not there."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    found = [target for target in links if "://" not in target and not (page.parent / target).exists()]
    for word in sorted(words(page)):
        if is_path(word) and not any((place / word).exists() for place in (ROOT, PACKAGE, page.parent)):
            found.append(word)
        elif re.fullmatch(r"rowmill(\.\w+)+", word):
            try:
                pkgutil.resolve_name(word)
            except (ImportError, AttributeError):
                found.append(word)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_and_module_that_a_page_names_is_there(page: Path) -> None:
    assert missing(page) == []


def test_pages_name_files() -> None:
    """The reader of pages sees them: a rule that sees nothing would hold for ever."""
    seen = {page.name: {word for word in words(page) if is_path(word)} for page in PAGES}
    assert {".ci/run", "scripts/prove", "config.toml"} <= seen["CONTRIBUTING.md"]
    assert {"supervisor/loop.py", "tests/test_architecture.py", "flow/limits/"} <= seen["ARCHITECTURE.md"]


def test_a_file_that_is_not_there_is_seen_in_every_form(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("""
[a](gone.md), [b](page.md#part), [c](https://example.com/x.py), `store/gone.py`, `store/seal.py`, `rowmill.store.gone`,
`rowmill.store.seal.write_sealed`, `rowmill.gone`, `checkpoints/000000.checkpoint`, `out.jsonl`, `s3://store/gone.py`
```sh
scripts/gone --now tests/gone/  # but data/gone is somebody's
```
""")
    assert missing(page) == [
        "gone.md", "rowmill.gone", "rowmill.store.gone", "scripts/gone", "store/gone.py", "tests/gone/",
    ]  # fmt: skip


def git(*arguments: str) -> str | None:
    """Return what git says of this checkout; None where it says no."""
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@pytest.fixture(scope="module")
def history() -> None:
    """Skips where the checkout has no history to look into: an unpacked archive, a shallow clone, a first commit."""
    top = git("rev-parse", "--show-toplevel")
    whole = git("rev-parse", "--is-shallow-repository") == "false" and git("rev-parse", "--verify", "HEAD^") is not None
    if top is None or Path(top).resolve() != ROOT.resolve() or not whole:
        pytest.skip("no git history here")


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_commit_that_a_page_names_is_in_the_history(page: Path) -> None:
    named = [span for span in spans(page) if re.fullmatch(r"[0-9a-f]{7,40}", span)]
    assert [commit for commit in named if git("merge-base", "--is-ancestor", commit, "HEAD") is None] == []


@pytest.mark.usefixtures("history")
def test_the_examples_of_the_contributing_page_are_commits_of_that_subject() -> None:
    examples = re.findall(r"^- `([0-9a-f]+)` \"(.+?)\"", CONTRIBUTING.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(examples) > 10
    assert examples == [(commit, git("log", "-1", "--format=%s", commit)) for commit, _ in examples]


def test_the_commented_configuration_loads() -> None:
    loaded = config.load(CONFIG)
    assert loaded.provider[0].base_url == config.SIMULATOR, "the demo asks nobody outside"


INSTEAD = {"task.messages": "task.prompt"}  # keys that stand in the place of another one


@pytest.mark.parametrize(("key", "text"), keys_in(CONFIG.read_text(encoding="utf-8")), ids=lambda part: part[:40])
def test_every_key_that_the_configuration_shows_can_be_set_so(key: str, text: str) -> None:
    section, _, name = key.partition(".")
    assert name in SECTIONS[section].__struct_fields__
    tree = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    other, _, replaced = INSTEAD.get(key, "").partition(".")
    if replaced:
        del tree[other][replaced]
    for table in [tree[section]] if section != "provider" else tree[section]:
        table[name] = tomllib.loads(f"value = {text}")["value"]
    config.parse(tree, str(CONFIG))


def test_the_configuration_shows_every_key_there_is() -> None:
    shown = {key for key, _ in keys_in(CONFIG.read_text(encoding="utf-8"))}
    every = {f"{section}.{name}" for section, kind in SECTIONS.items() for name in kind.__struct_fields__}
    assert every - shown == set()
