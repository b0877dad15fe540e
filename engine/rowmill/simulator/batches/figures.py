"""What batches and files did: the figures under `batches` in `/stats`. No I/O."""

from collections.abc import Mapping
from typing import Any

from rowmill.simulator.batches.objects import BatchUsage, Counts

_TRY = ("rowmill_run", "rowmill_part", "rowmill_try")  # metadata that tell one attempt at one part


class BatchFigures:
    """The figures of one provider, or of all together."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.files = 0
        self.files_twice = 0
        self.created = 0
        self.same_try = 0
        self.retrieved = 0
        self.requests = 0
        self.completed = 0
        self.failed = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.enqueued_max = 0
        self._statuses: dict[str, int] = {}
        self._inputs: dict[str, int] = {}
        self._files: set[tuple[str, str]] = set()
        self._tries: set[tuple[str | None, ...]] = set()

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

    def line(self, *, completed: bool, failed: bool) -> None:
        """Count a line that was worked on; one can be neither completed nor failed."""
        self.requests += 1
        self.completed += completed
        self.failed += failed

    def billed(self, prompt_tokens: int, completion_tokens: int, inputs: int, route: str) -> None:
        """Count what an answered line costs."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self._inputs[route] = self._inputs.get(route, 0) + inputs

    def ended(self, status: str) -> None:
        """Count the end of a batch."""
        self._statuses[status] = self._statuses.get(status, 0) + 1

    def remember(self, status: str, counts: Counts, usage: BatchUsage | None) -> None:
        """Count a batch that was over in an earlier process. Its `inputs` are not known any more."""
        self.ended(status)
        self.requests += counts.completed + counts.failed
        self.completed += counts.completed
        self.failed += counts.failed
        if usage is not None:
            self.prompt_tokens += usage.input_tokens
            self.completion_tokens += usage.output_tokens

    def figures(self) -> dict[str, Any]:
        """Everything as JSON.

        `files` counts uploads, `files_twice` those whose name and bytes had been uploaded before. `same_try` counts
        batches beyond the first of the same run, part and try, as their metadata say. `by_status` counts the ends of
        batches. `requests` counts lines that were worked on, of which `completed` had an answer; tokens are those of
        answers, for the caller to be billed. `retrieved` counts looks at a batch. `enqueued_max` is the most prompt
        tokens enqueued at a time, known only where the settings limit them.
        """
        return {
            "files": self.files,
            "files_twice": self.files_twice,
            "created": self.created,
            "same_try": self.same_try,
            "retrieved": self.retrieved,
            "by_status": dict(sorted(self._statuses.items())),
            "requests": self.requests,
            "completed": self.completed,
            "failed": self.failed,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "inputs": dict(sorted(self._inputs.items())),
            "enqueued_max": self.enqueued_max,
        }
