"""Every block of the pages of docs/ does what its page says: it is run, loaded, or compared.

How is said in `page_blocks`. What cannot be run here is in closed lists, with the reason, and is looked at as far as it
can be.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from rowmill.core.errors import RowmillError
from rowmill.core.simulator import SimulatorSettings
from tests.page_blocks import PLAIN, Reader, blocks, is_understood
from tests.simulator_host import SimulatorHost

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

# Commands that are looked at and not run, on all pages.
NOT_RUN = {
    "pip": "takes packages from an index",
    "uvx": "takes packages from an index",
    "ray": "starts a cluster: tests/end_to_end/test_cluster.py has one",
    "srun": "needs Slurm",
    "scontrol": "needs Slurm",
}
# The same on one page alone.
NOT_RUN_THERE = {
    "docs/cluster.md": {"rowmill": "runs on a cluster: tests/end_to_end/test_cluster.py has one"},
}
# Blocks of text that nobody has printed.
DRAWN = {
    "docs/ARCHITECTURE.md": "drawings, and records that tests/test_docs.py reads",
}
# Files that a reader has and that a page does not make.
DATA = {
    "README.md": {
        "products.jsonl": '{"sku": "A-17", "title": "Kettle", "description": "Boils a litre in two minutes."}\n',
    },
}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def look_at(words: list[str]) -> None:
    """Look at a command that is not run: it has flags that there are, and extras that there are."""
    assert is_understood(words), words
    extras = ",".join(re.findall(r"rowmill\[([\w,]+)\]", " ".join(words))).split(",")
    assert [extra for extra in extras if extra not in EXTRAS and extra] == [], words


def read(page: Path, reader: Reader, *, drawn: bool = False) -> None:
    """Do what a page says."""
    try:
        for block in blocks(page):
            if block.kind.startswith("{") or (drawn and block.kind == "text"):  # the former the site's build reads
                continue
            assert block.kind in PLAIN, f"{page.name}:{block.line}: a block says what it is, one of {PLAIN}"
            try:
                reader.do(block)
            except Exception as error:
                error.add_note(f"{page.name}:{block.line}, in the block\n{block.text}")
                raise
    finally:
        reader.end()
    for words in reader.not_run():
        look_at(words)


@pytest.fixture(scope="module")
def server(simulators: SimulatorHost) -> Iterator[str]:
    """Start a simulator that is every server of every page; gives its URL without the version."""
    started = simulators.start(SimulatorSettings(latency_ms=1.0, batch_s=0.2))
    yield started.base_url.removesuffix("/v1")
    started.stop()


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))], ids=name)
def test_every_block_of_a_page_does_what_the_page_says(page: Path, tmp_path: Path, server: str) -> None:
    not_run = {**NOT_RUN, **NOT_RUN_THERE.get(name(page), {})}
    reader = Reader(page, tmp_path, server, not_run, ROOT / "scripts")
    for file, content in DATA.get(name(page), {}).items():
        (tmp_path / "home" / file).write_text(content)
    read(page, reader, drawn=name(page) in DRAWN)


def test_the_lists_of_what_is_not_run_have_nothing_that_is_not_there() -> None:
    text = "".join(block.text for page in PAGES for block in blocks(page) if block.kind == "sh")
    assert [word for word in NOT_RUN if not re.search(rf"(^|[\s(]){word} ", text)] == []
    assert {*NOT_RUN_THERE, *DRAWN, *DATA} <= {name(page) for page in PAGES}


@pytest.mark.parametrize(
    "page",
    [
        "```sh\nfalse\n```",
        "```sh\nno-such-command\n```",
        "```sh\ncat gone.jsonl | head -n 1\n```",
        "<!-- exit 1 -->\n```sh\ntrue\n```",
        "```sh\necho 3 rows\n```\n```text\n4 lines\n```",
        "```sh\nprintf 'one\\ntwo\\n'\n```\n```text\ntwo\none\n```",
        '```sh\necho \'{"a": 1}\'\n```\n```json\n{"a": "1"}\n```',
        "```sh\necho text\n```\n```json\n{}\n```",
        "```json\n{\n```",
        "```python\nraise ValueError\n```",
        "```python\n1 +\n```",
        "```python\n# never_run.py\nraise ValueError\n```",
        "```toml\n[workers]\ncuont = 1\n```",
        "```toml\n# a.toml\n[workers]\n```\n```toml\n# added to a.toml\ncuont = 1\n```",
        "```yaml\n{\n```",
        "```\nof no kind\n```",
        "```sh\nlooked-at run rowmill --no-such-flag\n```",
        "```sh\nlooked-at install 'rowmill[nothing]'\n```",
        "- in a list\n\n  ```sh\n  false\n  ```",
    ],
)
def test_a_page_that_says_what_is_not_so_is_found(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"# Title\n\n{page}\n")
    reader = Reader(path, tmp_path, "http://127.0.0.1:9", {"looked-at": "is not there"}, ROOT / "scripts")
    with pytest.raises((AssertionError, SyntaxError, ValueError, RowmillError, yaml.YAMLError)):
        read(path, reader)


def test_a_page_is_read_as_by_one_who_does_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("""
```toml
# a.toml
[workers]
```

```toml
# added to a.toml
count = 1
```

```sh
mkdir work
cd work
export NAME=value
python -m http.server --bind 127.0.0.1 --help >/dev/null
looked-at run -- rowmill run --set workers.count=1
../scripts/test
```

<!-- exit 3 -->
```sh
test "$(basename "$PWD") $NAME" = "work value"
grep -c count ../a.toml
echo took 12.5s of 3 rows, then 9m58s
exit 3
```

```text
...
took 1s of 1,000 rows, then 0.4s
```

```python
# ask.py
print('{"rows": 1}')
```

```sh
python ask.py
```

```json
{"rows": 20}
```
""")
    reader = Reader(path, tmp_path, "http://127.0.0.1:9", {"looked-at": "is not there"}, ROOT / "scripts")
    read(path, reader)
    assert reader.not_run() == [["looked-at", "run", "--", "rowmill", "run", "--set", "workers.count=1"], ["test"]]
