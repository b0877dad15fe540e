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
        self._output: Writing | None = None
        self._errors: Writing | None = None

    def add(self, answered: Answered) -> None:
        """Take the answer to a line."""
        self.done += 1
        counts, usage = self._batch.request_counts, self._usage
        counts.completed += answered.completed
        counts.failed += not answered.completed
        if answered.output:
            self._output = self._storage.writing() if self._output is None else self._output
            self._output.write(answered.output)
        if answered.error:
            self.leave(answered.error)
        if answered.success:
            self._keys.append(answered.key)
        usage.input_tokens += answered.prompt_tokens
        usage.output_tokens += answered.completion_tokens
        for statistics in self._counted_in:
            statistics.line(answered.key, success=answered.success, damaged=answered.damaged)
            statistics.batches.line(completed=answered.completed)
            if answered.inputs:
                statistics.batches.billed(
                    answered.prompt_tokens, answered.completion_tokens, answered.inputs, self._route
                )

    def leave(self, error: bytes) -> None:
        """Write to the error file alone."""
        self._errors = self._storage.writing() if self._errors is None else self._errors
        self._errors.write(error)

    def publish(self, content: str, missing: str | None) -> None:
        """Make the files known. `content`: how the output's fails first; `missing`: the id of a file there is not."""
        usage = self._usage
        usage.total_tokens = usage.input_tokens + usage.output_tokens
        self._batch.usage = usage
        batch = self._batch
        batch.output_file_id = batch.error_file_id = missing
        if self._output is not None:
            name = f"{batch.id}_output.jsonl"
            batch.output_file_id = self._storage.keep(self._output, name, "batch_output", content=content).id
        if self._errors is not None:
            batch.error_file_id = self._storage.keep(self._errors, f"{batch.id}_error.jsonl", "batch_output").id
        self._storage.keep_keys(self._batch.id, self._keys)

    def close(self) -> None:
        """Let go of the files; unpublished ones are deleted."""
        for each in (self._output, self._errors):
            if each is not None:
                each.close()
