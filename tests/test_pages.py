"""The files, modules and commits that the README and the pages of docs/ name are there, and the site of them builds."""

import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rowmill
from tests.page_blocks import blocks

PACKAGE = Path(rowmill.__file__).parent
ROOT = PACKAGE.parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONTRIBUTING = ROOT / "docs" / "CONTRIBUTING.md"

# A word of code is a file of the repository if it begins with one of these and a slash, or ends so.
FOLDERS = {".ci", "docs", "engine", "scripts", "tests", *(path.name for path in PACKAGE.iterdir() if path.is_dir())}
SUFFIXES = (".md", ".py", ".toml")


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
    """Return the files and modules that a page names and that are not there, nor made by one of its blocks."""
    made = {block.file for block in blocks(page)}
    places = (ROOT, PACKAGE, page.parent)
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    found = [target for target in links if "://" not in target and not (page.parent / target).exists()]
    for word in sorted(words(page)):
        if is_path(word) and word not in made and not any((place / word).exists() for place in places):
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


def test_the_site_builds_and_no_link_of_it_or_of_the_readme_leads_nowhere(tmp_path: Path) -> None:
    pages, site = tmp_path / "docs", tmp_path / "site"
    shutil.copytree(ROOT / "docs", pages)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (pages / "README.md").write_text(f"---\norphan: true\n---\n{readme.replace('](docs/', '](')}", encoding="utf-8")
    strict = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    command = [sys.executable, "-P", "-m", "sphinx", *strict, str(pages), str(site)]
    environ = {"PYTHONPATH": str(ROOT)}
    built = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    made = {page.relative_to(site).with_suffix("") for page in site.rglob("*.html")}
    assert {page.relative_to(pages).with_suffix("") for page in pages.rglob("*.md")} <= made
