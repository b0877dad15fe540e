"""The pages that are made from the code have every key and every command, each with what it means."""

import re
from pathlib import Path

import pytest

from rowmill.core.config.reading import every_key
from rowmill.interface.cli import arguments
from scripts import reference
from scripts.reference import cli_page, comments, config_page


@pytest.fixture(scope="module")
def config() -> str:
    return config_page.text()


@pytest.fixture(scope="module")
def commands() -> str:
    return cli_page.text()


def entry(key: str, config: str) -> str:
    """Return what stands of a key."""
    (found,) = re.findall(rf"^### `{re.escape(key)}`\n\n(.*?)(?=^\(|^## |\Z)", config, re.DOTALL | re.MULTILINE)
    return str(found)


def test_every_key_has_its_type_its_default_its_meaning_and_an_anchor(config: str) -> None:
    for key in config_page.all_keys():
        kind, meaning, *_ = entry(key, config).split("\n\n")
        assert re.fullmatch(r"Type: .+\. (Required|May be left out|Default: .+)\.", kind)
        assert re.fullmatch(r".{4,}[.:?]", meaning), f"{key} has no comment in core/config/sections.py"
        assert f"\n({key.replace('.', '-').replace('_', '-')})=\n### `{key}`" in config


def test_no_key_is_left_out(config: str) -> None:
    prices = [key for key in config_page.all_keys() if key.startswith("prices.")]
    assert sorted(config_page.all_keys()) == sorted([*every_key(), *prices])
    assert len(prices) == 4
    assert re.findall(r"^## .*?(\w+)", config, re.MULTILINE) == list(config_page.sections())
    assert re.findall(r"^## `.*`\n\n(.{0,9})$", config, re.MULTILINE) == []


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("input.path", "Type: text. Required."),
        ("input.format", 'Type: `"auto"`, `"jsonl"`, `"json"`, `"csv"`'),
        ("workers.count", 'Type: whole number or `"auto"`. Default: `"auto"`.'),
        ("workers.count", 'It must be 1 to 256, or `"auto"`.'),
        ("provider.weight", "It must be 0 (only as a fallback) to 1000000000."),
        ("provider.fallback_on", 'Default: `["context_length", "content_filter"]`.'),
        ("provider.model", "In the place of [`task.model`](#task-model)."),
        ("prices.output", "It must be 0 or more dollars a million tokens."),
        ("retry.deadline_s", "Type: number. Default: `86400`."),
        ("budget.max_usd", "It must be above 0; leave it out for no limit."),
        ("task.schema", "Type: text or table. May be left out."),
        ("input.encoding", '```toml\n[input]\nencoding = "cp1252"\n```'),
        ("simulator.batch_faults", "Type: table of numbers. Default: `{}`."),
        ("notify.timeout_s", "It must be above 0 and at most 600 seconds."),
        ("notify.webhook", "It must start with http:// or https:// and a host."),
        ("simulator.parallel", "It must be at least 1."),
        ("simulator.hang_s", "It must be a number of 0 or more."),
        ("cluster.resources", "Of what is in it each must be above 0."),
    ],
)
def test_an_entry_says_what_the_code_says(config: str, key: str, words: str) -> None:
    assert words in entry(key, config)


def test_every_command_is_there_with_its_flags_and_exit_codes(commands: str) -> None:
    every = arguments.parser()
    for name, command in arguments.with_all_flags(every).items():
        (found,) = re.findall(rf"^## rowmill {name}\n\n(.*?)(?=^## |\Z)", commands, re.DOTALL | re.MULTILINE)
        assert f"```text\nrowmill {name} " in found
        assert "Exit codes: " in found, f"rowmill {name} does not say its exit codes"
        flags = [flag for flag in command._option_string_actions if flag not in ("-h", "--help")]
        assert [flag for flag in flags if not re.search(rf"`{flag}[ `].*\n: .{{4,}}\.$", found, re.MULTILINE)] == []


def test_a_page_is_filled_where_it_says_so(commands: str) -> None:
    page = "# Title\n\n<!-- made from the code: cli -->\n\n`<!-- made from the code: cli -->`\n"
    assert reference.filled(page) == page.replace("<!-- made from the code: cli -->", commands, 1)


def test_the_comment_of_a_field_is_behind_it_and_before_it(tmp_path: Path) -> None:
    path = tmp_path / "source.py"
    path.write_text("""
class A:
    # of nobody

    a: int = 1  # behind
    # before,
    # in two lines
    b: int = (
        2  # and within
    )
    c: str = "# no comment"

class B:
    a: int
""")
    assert comments.of_fields(path) == {
        "A": {"a": "behind", "b": "before, in two lines and within", "c": ""},
        "B": {"a": ""},
    }
