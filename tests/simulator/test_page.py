"""The page about the simulator names all that it can be told, and nothing else."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from rowmill.simulator.batches import words
from rowmill.simulator.faults import CATALOGUE

PAGE = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text(encoding="utf-8")


def first_cells(option: str) -> list[str]:
    """Return the words in the first column of the table that an option heads."""
    table = PAGE.partition(f"| `{option}` |")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    return [word for cell in cells for word in re.findall(r"`([^`]+)`", cell)]


def row_of(option: str) -> list[str]:
    """Return the words of an option of batches, as their table lists them."""
    (line,) = re.findall(rf"^\| `{option}` \| (.*) \|$", PAGE, re.MULTILINE)
    return re.findall(r"`([^`]+)`", line)


@pytest.mark.parametrize(("option", "content"), [("--fault", False), ("--content-fault", True)])
def test_the_faults_of_the_page_are_all_that_there_are(option: str, *, content: bool) -> None:
    known = [name for name, fault in CATALOGUE.items() if fault.content == content and name != "ok"]
    assert sorted(first_cells(option)) == sorted(known)


@pytest.mark.parametrize(
    ("option", "read"), [("--batch-script", words.batch_script), ("--upload-script", words.upload_script)]
)
def test_the_words_of_scripts_on_the_page_are_all_that_there_are(option: str, read: Callable[[str], object]) -> None:
    shown = row_of(option)
    for word in shown:
        for written in (word.partition("[")[0], word.replace("[", "").replace("]", "")):
            read(written.replace("SHARE", "0.5").replace("SECONDS", "2").replace("CODE", "x").replace("=N", "=3"))
    with pytest.raises(ValueError, match="Known: ") as unknown:
        read("no such word")
    known = str(unknown.value).partition("Known: ")[2].split(", ")
    assert {re.split(r"[\[:]", word)[0] for word in shown} == set(known)


def test_the_line_faults_of_the_page_are_those_that_there_are() -> None:
    assert row_of("--batch-fault") == list(words.LINE_FAULTS)
