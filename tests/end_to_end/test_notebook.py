"""Rowmill in a notebook, by a real kernel: a live display in the cell, models of cells, interrupts that keep all."""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import nbclient
import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from tests.end_to_end.conftest import Place, Witness, until

SETUP = """
import os, rowmill
from pydantic import BaseModel, field_validator
OPTIONS = dict(model="m", base_url=os.environ["URL"], workers={"count": 1, "concurrency": 4})

class Label(BaseModel):
    label: str
    n: int

    @field_validator("label")
    @classmethod
    def short(cls, label):
        return label[:5]
"""
LABELLED = """
answers = rowmill.map([f"row {n}" for n in range(8)], schema=Label, **OPTIONS)
print(len(answers), type(answers[0].output).__name__, len(answers[0].output.label), answers.report.ok)
"""
LONG = """
rows = [f"long {n}" for n in range(60)]
try:
    rowmill.map(rows, schema=Label, run_dir="kept", **OPTIONS)
except KeyboardInterrupt as interrupt:
    print(interrupt)
"""
# The same call, but awaited in the loop that the kernel has.
AGAIN = """
import asyncio
ticks = 0
async def tick():
    global ticks
    while True:
        await asyncio.sleep(0.01)
        ticks += 1
ticking = asyncio.create_task(tick())
answers = await rowmill.amap(rows, schema=Label, run_dir="kept", **OPTIONS)
ticking.cancel()
print(len(answers), ticks > 3, {type(each.output).__name__ for each in answers})
"""
LONG_AWAITED = """
try:
    await rowmill.amap((f"late {n}" for n in range(60)), run_dir="kept-too", progress=False, **OPTIONS)
except asyncio.CancelledError as cancelled:
    print(cancelled)
"""


class Notebook:
    """Cells, executed one by one in one kernel."""

    def __init__(self, place: Place, url: str) -> None:
        temporary = place.folder / "tmp"
        for folder in (temporary, place.folder / "ipython"):
            folder.mkdir()
        environ = {
            **place.environ, "URL": url, "TMPDIR": str(temporary), "IPYTHONDIR": str(place.folder / "ipython"),
            "JUPYTER_PLATFORM_DIRS": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }  # fmt: skip
        manager = AsyncKernelManager(kernel_name="python3", connection_file=str(place.folder / "kernel.json"))
        manager._kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python"
        )
        self._book = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]  # it has no types
        self.client = nbclient.NotebookClient(
            self._book, km=manager, timeout=60, resources={"metadata": {"path": str(place.folder)}}
        )
        self._folder = place.folder
        self._environ = environ
        self._manager = manager

    async def started(self) -> None:
        await self.client.async_start_new_kernel(env=self._environ, cwd=self.client.resources["metadata"]["path"])
        await self.client.async_start_new_kernel_client()

    async def run(self, source: str) -> list[Any]:
        """Execute a cell, and return its outputs."""
        self._book.cells.append(nbformat.v4.new_code_cell(source))  # type: ignore[no-untyped-call]  # likewise
        cell = await self.client.async_execute_cell(self._book.cells[-1], len(self._book.cells) - 1)
        outputs: list[Any] = cell["outputs"]
        return outputs

    async def interrupted(self, source: str, witness: Witness, run_dir: str) -> list[Any]:
        """Execute a cell, and interrupt it after some requests as the notebook's button does."""
        enough = asked(witness) + 8
        witness.hold(enough)
        running = asyncio.create_task(self.run(source))
        while await asyncio.to_thread(asked, witness) <= enough:
            assert not running.done(), running.result()
            await asyncio.sleep(0.01)  # each look costs the simulator, and the kernel that is about to ask it
        await self._manager.interrupt_kernel()
        log = self._folder / run_dir / "run" / "run.log"
        await asyncio.to_thread(until, lambda: "SIGINT" in log.read_text(), "the interrupt heard")
        witness.go_on()
        return await running

    async def ended(self) -> None:
        await self.client._async_cleanup_kernel()


def printed(outputs: list[Any]) -> str:
    return "".join(each["text"] for each in outputs if each["output_type"] == "stream" and each["name"] == "stdout")


def pictures(outputs: list[Any]) -> list[Any]:
    return [each["data"] for each in outputs if each["output_type"] == "display_data"]


def asked(witness: Witness) -> int:
    requests: int = witness.stats()["requests"]
    return requests


async def used(place: Place, witness: Witness) -> None:
    book = Notebook(place, witness.url)
    await book.started()
    try:
        assert await book.run(SETUP) == []
        outputs = await book.run(LABELLED)
        assert printed(outputs) == "8 Label 5 True\n"
        (picture,) = pictures(outputs)  # one, drawn anew in its place
        assert "8/8" in picture["text/plain"]
        assert picture["text/html"].startswith("<pre")
        assert "\x1b" not in picture["text/html"] + picture["text/plain"]
        before = asked(witness)
        outputs = await book.interrupted(LONG, witness, "kept")
        said = printed(outputs)
        assert said.endswith("rows are done and kept; the same call goes on from there\n"), outputs
        assert 8 <= int(said.split()[0]) < 60
        outputs = await book.run(AGAIN)
        assert printed(outputs) == "60 True {'Label'}\n"
        assert len(pictures(outputs)) == 1
        assert asked(witness) == before + 60, "none was paid for twice, and the kernel lives on"
        outputs = await book.interrupted(LONG_AWAITED, witness, "kept-too")
        assert printed(outputs).endswith("rows are done and kept; the same call goes on from there\n")
        assert pictures(outputs) == [], "nobody wants any"
    finally:
        await book.ended()


def test_a_notebook_shows_the_run_in_its_cell_and_an_interrupt_keeps_what_is_done(
    place: Place, simulator: Callable[..., Witness]
) -> None:
    witness = simulator(latency_ms=5)
    asyncio.run(used(place, witness))
    assert json.loads((place.folder / "kept" / "results.jsonl").read_bytes().splitlines()[59])["index"] == 59
    assert not list((place.folder / "tmp").glob("rowmill-*"))
