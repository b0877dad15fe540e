"""What comes of one batch: its output and error files, its counts, and the figures of both."""

from array import array

from rowmill.simulator.batches.objects import BatchObject, BatchUsage, Counts
from rowmill.simulator.batches.results import Answered
from rowmill.simulator.batches.storage import Storage, Writing
from rowmill.simulator.provider import SimulatedProvider


class Outcome:
    """Gathers answers on disk until they are published. Mutable state: the two files, and the batch's counts."""

    def __init__(self, batch: BatchObject, storage: Storage, provider: SimulatedProvider, route: str) -> None:
        self.done = 0  # lines that were worked on
        batch.request_counts = Counts()  # a batch that another process had begun begins again
        self._batch = batch
        self._storage = storage
        self._counted_in = provider.counted_in
        self._route = route
        self._usage = BatchUsage()
        self._keys = array("Q")
        self._files: dict[str, Writing] = {}  # by kind: "output", "error"

    def add(self, answered: Answered) -> None:
        """Take the answer to a line."""
        self.done += 1
        counts, usage = self._batch.request_counts, self._usage
        counts.completed += answered.completed
        counts.failed += not answered.completed
        if answered.output:
            self._write("output", answered.output)
        if answered.error:
            self.leave(answered.error)
        if answered.success:
            self._keys.append(answered.key)
        usage.input_tokens += answered.prompt_tokens
        usage.output_tokens += answered.completion_tokens
        for statistics in self._counted_in:
            statistics.line(answered.key, success=answered.success, damaged=answered.damaged)
            statistics.batches.line(answered.prompt_tokens, answered.completion_tokens, completed=answered.completed)
            if answered.inputs:
                statistics.batches.inputs[self._route] += answered.inputs

    def leave(self, error: bytes) -> None:
        """Write to the error file alone."""
        self._write("error", error)

    def publish(self, content: str, missing: str | None) -> None:
        """Make the files known. `content`: how the output's fails first; `missing`: the id of a file there is not."""
        batch, usage = self._batch, self._usage
        usage.total_tokens = usage.input_tokens + usage.output_tokens
        batch.usage = usage
        batch.output_file_id = self._file("output", content) or missing
        batch.error_file_id = self._file("error", "") or missing
        self._storage.keep_keys(batch.id, self._keys)

    def close(self) -> None:
        """Let go of the files; unpublished ones are deleted."""
        for writing in self._files.values():
            writing.close()

    def _write(self, kind: str, line: bytes) -> None:
        if kind not in self._files:
            self._files[kind] = self._storage.writing()
        self._files[kind].write(line)

    def _file(self, kind: str, content: str) -> str | None:
        if (writing := self._files.get(kind)) is None:
            return None
        return self._storage.keep(writing, f"{self._batch.id}_{kind}.jsonl", "batch_output", content=content).id
