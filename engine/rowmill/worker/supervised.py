"""A worker as its supervisor has it: how it starts, what it is told and tells, how it shows that it is alive."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from time import monotonic
from typing import Any

import uvloop

from rowmill.core.counts import Totals
from rowmill.core.defects import told
from rowmill.core.errors import DefectError, ExitCode
from rowmill.files.output import open_codec
from rowmill.ipc import messages
from rowmill.ipc.channel import Channel
from rowmill.ipc.messages import Defective, Note, Setup, ShardSealed, Stop
from rowmill.store.run_directory import RunDirectory
from rowmill.tasks import numbers
from rowmill.tasks.factory import open_task

_HEARTBEAT_S = 0.25
_LAST_WORDS_S = 5.0  # that a supervisor has for what a worker that ends has said


class SupervisedWorker(ABC):
    """What workers of both kinds have in common."""

    def __init__(self, setup: Setup, channel: Channel) -> None:
        config = setup.config
        self._setup = setup
        self._channel = channel
        self._directory = RunDirectory(setup.run_directory)
        self._shard_files = self._directory.of_step(None if setup.step is None or setup.step.last else setup.step.name)
        self._task = open_task(
            config.task, config.input, whole_reply=config.output.format == "batch", parts=config.output.parts
        )
        if self._task.documents is not None:
            self._task.documents.open()
        self._columns = None if "input" in config.output.include else self._task.columns
        self._codec = open_codec(config.output, setup.layout, setup.step)
        self._codec.load()
        self._draining = asyncio.Event()
        self._told = False  # the supervisor has been told of a first group on disk
        self._lag_ms = 0.0

    @classmethod
    def main(cls, pipe: Connection) -> int:
        """Run a worker until it is told to stop or its supervisor is gone; returns the exit status."""
        setup = messages.receive_in_worker(pipe)
        if not isinstance(setup, Setup):
            return ExitCode.OK  # told to go, or left alone, before there was anything to do
        channel = Channel(pipe)
        try:
            RunDirectory(setup.run_directory).hold_worker_lock(setup.supervisor)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.get_loop().set_exception_handler(partial(_on_lost, RunDirectory(setup.run_directory).log))
                runner.run(cls(setup, channel).run())
        except Exception as error:  # noqa: BLE001 - the last edge of a worker: its supervisor tells why it ended
            failure = told(error, RunDirectory(setup.run_directory).log)
            if isinstance(failure, DefectError):
                channel.send_last(messages.encode(Defective(str(failure))), _LAST_WORDS_S)
                return ExitCode.DEFECT
            channel.send_last(messages.encode(Stop(failure.exit_code, str(failure))), _LAST_WORDS_S)
        return ExitCode.OK

    @abstractmethod
    async def run(self) -> None:
        """Work, and see everything to its end."""

    @abstractmethod
    def _hear(self, message: messages.ToWorker) -> None:
        """Do what the supervisor says."""

    @abstractmethod
    def _left_alone(self) -> None:
        """Drain: the supervisor is gone."""

    def _tell_progress(self) -> None:
        """Tell what was noticed in rows, and send a heartbeat."""
        if (noticed := numbers.nulled.note()) is not None:
            self._tell(Note(noticed, once=True))
        if self._task.documents is not None and (noticed := self._task.documents.note()) is not None:
            self._tell(Note(noticed, once=True))
        self._send_progress()

    def _close_documents(self) -> None:
        """Wait for no document any more: a thread that reads one would hold up the end."""
        if self._task.documents is not None:
            self._task.documents.close()

    @abstractmethod
    def _send_progress(self) -> None:
        """Send a heartbeat."""

    @abstractmethod
    def _between_heartbeats(self, seconds: float) -> None:
        """Do what is due each time; `seconds` have passed since the time before."""

    def _begin_to_hear(self) -> None:
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_message)

    async def _hear_no_more(self) -> None:
        """Leave what comes unread, and wait until what was told has gone out."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        with suppress(TimeoutError):
            await asyncio.wait_for(self._channel.drained(), _LAST_WORDS_S)

    def _on_message(self) -> None:
        received = self._channel.receive()
        for data in received or ():
            self._hear(messages.to_worker(data))
        if received is None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._left_alone()

    def _tell(self, message: messages.ToSupervisor) -> None:
        if not self._channel.send(messages.encode(message)):
            self._left_alone()

    def _note(self, text: str) -> None:
        self._tell(Note(text))

    def _on_sealed(self, number: int, totals: Totals) -> None:
        self._tell(ShardSealed(number, totals))

    def _on_synced(self) -> None:
        if not self._told:
            # At once: a worker that dies before its first heartbeat, but not before its first group, has got somewhere.
            self._told = True
            self._tell_progress()

    async def _send_heartbeats(self) -> None:
        before = monotonic()
        while True:
            if not self._channel.full:  # a supervisor that is stopped reads nothing, and is told the latest then
                self._tell_progress()
            await asyncio.sleep(_HEARTBEAT_S)
            now = monotonic()
            self._lag_ms = max(0.0, now - before - _HEARTBEAT_S) * 1000
            self._between_heartbeats(now - before)
            before = now


def _on_lost(log: Path, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep what was raised where nobody awaits it; asyncio would write it to the terminal."""
    if isinstance(error := context.get("exception"), Exception):
        told(error, log)
