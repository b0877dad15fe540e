"""The child that reads documents: what it may take, and what becomes of one that it dies of."""

import asyncio
import gc
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from rowmill.core.errors import MachineError
from rowmill.tasks.documents import reader as documents
from rowmill.tasks.documents.extraction import Bounds, Extracted
from rowmill.tasks.documents.reader import DocumentReader
from tests.end_to_end.conftest import until
from tests.tasks.documents import made

BOUNDS = Bounds(100, 200_000)


def child_of(reader: DocumentReader) -> int:
    assert reader._child is not None
    return reader._child.pid


def test_one_child_reads_all_and_goes_with_its_reader(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(made.pdf("first"))
    (tmp_path / "b.txt").write_text("second")
    reader = DocumentReader(tmp_path, BOUNDS)
    assert reader.read_now("a.pdf") == Extracted("first")
    pid = child_of(reader)
    assert asyncio.run(reader.read("b.txt")) == Extracted("second")
    assert asyncio.run(reader.read("näme\n\udce4")).code == "not_readable"
    assert child_of(reader) == pid
    del reader
    gc.collect()
    assert not psutil.pid_exists(pid)


def test_one_that_takes_too_much_memory_is_the_end_of_itself_alone(tmp_path: Path) -> None:
    bomb = made.docx(made.paragraph("a" * 200_000_000))
    assert len(bomb) < 1_000_000
    (tmp_path / "bomb.docx").write_bytes(bomb)
    (tmp_path / "fine.txt").write_text("fine")
    reader = DocumentReader(tmp_path, BOUNDS, memory=400 << 20)
    found = reader.read_now("bomb.docx")
    assert found.code in ("too_large", "damaged")
    assert "memory" in found.problem
    assert reader.read_now("fine.txt") == Extracted("fine")
    reader.close()


def test_one_that_takes_too_long_or_kills_its_reader_is_told(tmp_path: Path) -> None:
    page = b"<html><body>" + b"<p>x" * 3_000_000
    (tmp_path / "long.html").write_bytes(page)
    (tmp_path / "fine.txt").write_text("fine")
    reader = DocumentReader(tmp_path, BOUNDS, cpu_s=1)
    said = "the document 'long.html' takes more than 1 s of computing to read"
    assert reader.read_now("long.html") == Extracted(problem=said, code="too_large")
    assert reader.read_now("fine.txt") == Extracted("fine")
    os.kill(child_of(reader), signal.SIGKILL)  # as the system does where memory is short, whoever has it
    assert reader.read_now("fine.txt") == Extracted("fine")
    os.kill(child_of(reader), signal.SIGSEGV)
    assert reader.read_now("fine.txt").problem == (
        "the document 'fine.txt' is damaged, or takes more than 1.0 GiB of memory: its reader was killed by signal 11"
    )
    assert reader.read_now("fine.txt") == Extracted("fine")
    reader.close()


def test_who_waits_when_it_is_closed_hears_that_the_run_has_stopped(tmp_path: Path) -> None:
    (tmp_path / "fine.txt").write_text("fine")
    reader = DocumentReader(tmp_path, BOUNDS)
    assert reader.read_now("fine.txt") == Extracted("fine")
    os.kill(child_of(reader), signal.SIGSTOP)  # the document that never ends
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(reader.read_now, "fine.txt")
        until(reader._turn.locked, "somebody waits for it")
        reader.close()
        with pytest.raises(MachineError, match="the run has stopped"):
            reading.result()
    with pytest.raises(MachineError, match="the run has stopped"):
        reader.read_now("fine.txt")


def test_a_child_that_cannot_start_is_no_row_s_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modules" / "pypdfium2").mkdir(parents=True)
    (tmp_path / "modules" / "pypdfium2" / "__init__.py").write_text("raise ImportError('no such library')")
    monkeypatch.setattr(documents, "module_path", lambda: [str(tmp_path / "modules"), *sys.path])
    reader = DocumentReader(tmp_path, BOUNDS)
    with pytest.raises(MachineError, match="the process that reads documents ends at its start"):
        reader.read_now("fine.txt")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(MachineError, match="cannot be started: No such file or directory"):
        reader.read_now("fine.txt")


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"documents_dir: there is no directory .*/gone on this machine"):
        DocumentReader(tmp_path / "gone", BOUNDS).check()
