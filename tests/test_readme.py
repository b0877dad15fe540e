"""The README is short and names what there is; what the commented configuration says can be set so.

Its blocks are run by `test_docs_blocks`, its links and files are looked up by `test_pages`.
"""

import os
import re
import tomllib
from pathlib import Path

import pytest

import rowmill
from rowmill.core import config
from rowmill.core.config.reading import SECTIONS, every_key

ROOT = Path(rowmill.__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIG = ROOT / "config.toml"
MOST_LINES = 150


def keys_in(text: str) -> list[tuple[str, str]]:
    """Every `key = value` of a configuration as ("section.key", value), the commented-out ones included."""
    found, section = [], ""
    for line in text.splitlines():
        if heading := re.match(r"(?:# \[)?\[+(\w+)\]+", line):
            section = heading[1]
        elif entry := re.match(r"(?:# )?([a-z_]+) = (.+)$", line):
            found.append((f"{section}.{entry[1]}", entry[2]))
    return found


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("script", ["scripts/demo", "scripts/test"])
def test_the_readme_names_the_scripts_to_begin_with(script: str) -> None:
    assert script in README
    assert os.access(ROOT / script, os.X_OK)


def test_the_figures_of_the_readme_are_those_of_the_page_about_benchmarks() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    shown = [line for line in README.splitlines() if line.endswith(" µs |")]
    assert len(shown) >= 3, "the usual way, this one, and the limit of the machine"
    assert [line for line in shown if line not in page.splitlines()] == []


def test_the_commented_configuration_loads() -> None:
    loaded = config.load(CONFIG)
    assert loaded.provider[0].base_url == config.SIMULATOR, "the demo asks nobody outside"


INSTEAD = {"task.messages": "task.prompt"}  # keys that stand in the place of another one
OF_A_PRESET = {"preset": "azure", "host": "my-resource"}  # in the place of the base URL: what two keys are of
WITH = {"notify.headers_env": {"webhook": "https://example.com"}}  # keys that need another one of their section


@pytest.mark.parametrize(("key", "text"), keys_in(CONFIG.read_text(encoding="utf-8")), ids=lambda part: part[:40])
def test_every_key_that_the_configuration_shows_can_be_set_so(key: str, text: str) -> None:
    section, _, name = key.partition(".")
    assert name in SECTIONS[section].__struct_fields__
    tree = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    other, _, replaced = INSTEAD.get(key, "").partition(".")
    if replaced:
        del tree[other][replaced]
    if section == "step":
        tree["step"] = [{"name": "one"}]
    tree[section] = {**tree[section], **WITH[key]} if key in WITH else tree[section]
    if key in ("provider.host", "provider.api_version"):
        del tree[section][0]["base_url"]
        tree[section][0] |= OF_A_PRESET
    for table in tree[section] if isinstance(tree[section], list) else [tree[section]]:
        table[name] = tomllib.loads(f"value = {text}")["value"]
    config.parse(tree, str(CONFIG))


def test_the_configuration_shows_every_key_there_is() -> None:
    shown = {key for key, _ in keys_in(CONFIG.read_text(encoding="utf-8"))}
    assert set(every_key()) - shown == set()
