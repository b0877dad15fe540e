"""What batches and files did: the figures under `batches` in `/stats`. No I/O."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from rowmill.simulator.batches.objects import BatchUsage, Counts

_TRY = ("rowmill_run", "rowmill_part", "rowmill_try")  # metadata that tell one attempt at one part


class Figures(msgspec.Struct):
    """Figures whose fields are their JSON, in that order; those that begin with "_" are not shown."""

    def shown(self) -> dict[str, Any]:
        """Everything as JSON; what is counted by name is sorted by name."""
        told = {name: value for name, value in msgspec.structs.asdict(self).items() if not name.startswith("_")}
        for name, value in told.items():
            if isinstance(value, Counter):
                told[name] = dict(sorted(value.items()))
            elif isinstance(value, Figures):
                told[name] = value.shown()
        return told


class BatchFigures(Figures):
    """The figures of one provider, or of all together."""

    files: int = 0  # uploads
    files_twice: int = 0  # those whose name and bytes had been uploaded before
    created: int = 0
    same_try: int = 0  # batches beyond the first of the same run, part and try, as their metadata say
    retrieved: int = 0  # looks at a batch
    by_status: Counter[str] = msgspec.field(default_factory=Counter)  # ends of batches
    requests: int = 0  # lines that were worked on
    completed: int = 0  # those that had an answer
    failed: int = 0
    prompt_tokens: int = 0  # of answers, for the caller to be billed
    completion_tokens: int = 0
    inputs: Counter[str] = msgspec.field(default_factory=Counter)  # by route
    enqueued_max: int = 0  # most prompt tokens enqueued at a time, known only where the settings limit them
    _files: set[tuple[str, str]] = set()
    _tries: set[tuple[str | None, ...]] = set()

    def uploaded(self, filename: str, digest: str) -> None:
        """Count a file that was stored."""
        self.files += 1
        self.files_twice += (filename, digest) in self._files
        self._files.add((filename, digest))

    def made(self, metadata: Mapping[str, str] | None) -> None:
        """Count a batch that was created."""
        self.created += 1
        attempt = tuple((metadata or {}).get(name) for name in _TRY)
        if None not in attempt:
            self.same_try += attempt in self._tries
            self._tries.add(attempt)

    def enqueued(self, tokens: int) -> None:
        """Note how many prompt tokens are enqueued now."""
        self.enqueued_max = max(self.enqueued_max, tokens)

    def line(self, prompt_tokens: int, completion_tokens: int, *, completed: bool) -> None:
        """Count a line that was worked on, and what it costs."""
        self.requests += 1
        self.completed += completed
        self.failed += not completed
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens

    def remember(self, status: str, counts: Counts, usage: BatchUsage | None) -> None:
        """Count a batch that was over in an earlier process. Its `inputs` are not known any more."""
        self.by_status[status] += 1
        self.requests += counts.completed + counts.failed
        self.completed += counts.completed
        self.failed += counts.failed
        if usage is not None:
            self.prompt_tokens += usage.input_tokens
            self.completion_tokens += usage.output_tokens
