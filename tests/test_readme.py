"""What the README and the commented configuration say is tried: an example that does not work is worse than none."""

import json
import os
import re
import shlex
import tomllib
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


def test_the_commented_configuration_loads() -> None:
    loaded = config.load(CONFIG)
    assert loaded.provider[0].base_url == config.SIMULATOR, "the demo asks nobody outside"


INSTEAD = {"task.messages": "task.prompt"}  # keys that stand in the place of another one
WITH = {"notify.headers_env": {"webhook": "https://example.com"}}  # keys that need another one of their section


@pytest.mark.parametrize(("key", "text"), keys_in(CONFIG.read_text(encoding="utf-8")), ids=lambda part: part[:40])
def test_every_key_that_the_configuration_shows_can_be_set_so(key: str, text: str) -> None:
    section, _, name = key.partition(".")
    assert name in SECTIONS[section].__struct_fields__
    tree = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    other, _, replaced = INSTEAD.get(key, "").partition(".")
    if replaced:
        del tree[other][replaced]
    tree[section] = {**tree[section], **WITH[key]} if key in WITH else tree[section]
    for table in [tree[section]] if section != "provider" else tree[section]:
        table[name] = tomllib.loads(f"value = {text}")["value"]
    config.parse(tree, str(CONFIG))


def test_the_configuration_shows_every_key_there_is() -> None:
    shown = {key for key, _ in keys_in(CONFIG.read_text(encoding="utf-8"))}
    every = {f"{section}.{name}" for section, kind in SECTIONS.items() for name in kind.__struct_fields__}
    assert every - shown == set()
