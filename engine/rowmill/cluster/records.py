"""What nodes have written, on its way into the run directory. Blocks: it is called in threads."""

import os
from pathlib import Path

from rowmill.cluster.shared_requests import SharedRequests
from rowmill.cluster.wire import Arrived, Board, Claimed, Group, Tell, Up, Whole
from rowmill.core.errors import MachineError
from rowmill.core.rows import Shard
from rowmill.ipc import messages
from rowmill.store import durable
from rowmill.store.recovery import recover
from rowmill.store.run_directory import RunDirectory
from rowmill.store.seal import lay_sealed


class Records:
    """The run directory as the carriers of records use it.

    A shard is one worker's at a time, and so are its files here.
    """

    KINDS = (Group, Claimed, Whole, Board)

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._claims = SharedRequests(directory.claims)
        self._claimants: dict[int, int] = {}  # worker -> the number that it claims under

    def past(self, shard: int, start: int, size: int) -> bytes:
        """Return what the checkpoint of a shard has from an offset on, at most so much; nothing where there is none."""
        try:
            return self.read(str(self._checkpoint(shard)), start, size)
        except FileNotFoundError:
            return b""

    def salvage(self, shard: Shard) -> str | None:
        """Put a damaged checkpoint aside and keep its valid records; returns what is to be told of it, if it was.

        Raises `RunDirectoryError` where it is another shard's, `MachineError` where it cannot be written.
        """
        path = self._directory.checkpoint_path(shard)
        if not path.exists():
            return None
        with durable.machine_errors(f"salvage the checkpoint {path}"):
            before = path.stat().st_ino
            reading = recover(path, shard, salvage=True)
            if path.stat().st_ino == before:
                return None
        return f"{path.name}: cut {reading.broken_bytes} bytes that are no valid records; their rows are redone"

    @staticmethod
    def read(path: str, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        with Path(path).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)

    def begin(self, worker: int, claimant: int) -> None:
        """Take note of a worker, and of the number that it claims under."""
        self._claimants[worker] = claimant

    def end(self, worker: int) -> None:
        """Let go of a worker that has ended."""
        claimant = self._claimants.pop(worker, None)
        if claimant is not None:
            self._claims.forget(claimant)

    def store(self, items: list[Up]) -> list[Arrived | Tell]:
        """Write what there is to be written, in its order; returns what is to be told of it.

        Raises `MachineError` where a sealed shard cannot be written.
        """
        answers: list[Arrived | Tell] = []
        for item in items:
            match item:
                case Group(worker=worker, shard=shard, start=start, data=data):
                    problem = self._append(shard, start, data)
                    answers.append(Arrived(worker, shard, start + len(data), problem))
                case Claimed(worker=worker, ask=ask):
                    if (claimant := self._claimants.get(worker)) is not None:
                        answer = self._claims.ask(claimant, ask)
                        answers += [] if answer is None else [Tell(worker, messages.encode(answer))]
                case Whole(shard=shard, data=data, start=start, last=last):
                    lay_sealed(self._directory.sealed, shard, start, data, last=last)
                case Board(worker=worker, data=data):
                    self._note(worker, data)
        return answers

    def _append(self, shard: int, start: int, data: bytes) -> str | None:
        """Bring a group to the disk; returns why it cannot be."""
        path = self._checkpoint(shard)
        try:
            with durable.machine_errors(f"write the checkpoint {path}"):
                if not start:
                    durable.replace_durably(path, data)
                else:
                    durable.write_at(path, start, data)
        except MachineError as error:
            return str(error)
        return None

    def _note(self, worker: int, data: bytes) -> None:
        try:
            durable.replace_unsynced(self._directory.board_path(worker), data)
        except OSError:
            return  # it only counts what may be billed twice

    def _checkpoint(self, shard: int) -> Path:
        return self._directory.checkpoints / f"{shard:06d}.checkpoint"
