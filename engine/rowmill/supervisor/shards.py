"""From the plan to the output: shards are planned, handed out, come back sealed, and are merged in their order."""

import time
from collections.abc import Iterable

from rowmill.core.errors import MachineError
from rowmill.core.rows import Shard
from rowmill.files.output import open_format
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Finished
from rowmill.store.seal import Sealed, read_sealed
from rowmill.supervisor.mailbox import Mailbox, Planned
from rowmill.supervisor.prepared import Prepared, bytes_of
from rowmill.supervisor.progress import Progress
from rowmill.supervisor.shard_book import ShardBook
from rowmill.supervisor.threads import MergeThread, Planner


class ShardScheduler:
    """The shards of one run and its output. Its two threads leave what they have done in the mailbox.

    finishing: every shard has been handed to the merge. finished: the output is in its place.
    """

    def __init__(self, prepared: Prepared, progress: Progress, mailbox: Mailbox, *, retry: bool = False) -> None:
        """`retry`: shards with failed rows are done again."""
        self._config = prepared.config
        self._directory = prepared.directory
        self._manifest = prepared.manifest
        self._prepared = prepared
        self._progress = progress
        self._mailbox = mailbox
        self._retry = retry
        self._format = open_format(prepared.config.output, prepared.layout)
        self._book = ShardBook()
        self._planner: Planner | None = None
        self._merger: MergeThread | None = None
        self.finishing = False
        self.finished = False

    def open_output(self) -> None:
        """Start to merge whatever is sealed."""
        config = self._config
        self._merger = MergeThread(config.output_path, config.errors_path, self._mailbox, self._format)

    def start_planning(self) -> None:
        """Start to plan, or take the plan that an earlier session brought to its end."""
        prepared = self._prepared
        if prepared.shards is None:
            self._planner = Planner(
                prepared.input,
                self._directory.spool,
                self._manifest.shard_bytes,
                self._manifest.shard_rows,
                self._mailbox,
            )
        else:
            self._mailbox.put(Planned(prepared.shards, last=True))

    def stop_planning(self) -> None:
        """Give up planning; a resume does it again."""
        if self._planner is not None:
            self._planner.stop()

    def close_output(self) -> None:
        """End the merge; what it has not finished is removed."""
        if self._merger is not None:
            self._merger.stop()

    def on_planned(self, planned: Planned) -> None:
        """Take in the next shards of the plan."""
        for shard in planned.shards:
            sealed = read_sealed(self._directory.sealed_path(shard)) if self._prepared.resumed else None
            # One of another output format is as good as none: a worker makes it again from its checkpoint.
            done = sealed is not None and sealed.shard == shard and sealed.format == self._format.key
            if sealed is not None and self._retry and sealed.totals.failed:
                done = False
            self._book.add(shard, sealed=done)
            if done and sealed is not None:
                self._merge(sealed)
        if planned.last:
            self._book.planned = True
            self._progress.total_rows = self._book.rows
            if self._prepared.shards is None:
                manifests.save_plan(self._directory.plan, self._book.shards)

    def on_sealed(self, shard: Shard) -> None:
        """Take in a shard that a worker has sealed."""
        sealed = read_sealed(self._directory.sealed_path(shard))
        if sealed is None:
            raise MachineError(
                f"sealed shard {shard.number} has gone from the run directory; run the same command again"
            )
        self._merge(sealed)

    def notices(self) -> tuple[str, ...]:
        """Tell what holds the run back: an input that is still being read, where that takes its time."""
        if self._planner is None or self._book.planned:
            return ()
        size = sum(file.size for file in self._manifest.input)
        share = min(self._planner.read_bytes / size, 1.0) if size else 1.0
        return (f"reading the input: {share:.0%}",)

    def next_to_assign(self) -> Shard | None:
        """Take the next shard that nobody works on."""
        return self._book.next_to_assign()

    def give_back(self, shards: Iterable[Shard]) -> None:
        """Put shards of a worker that is gone first in line again."""
        self._book.give_back(shards)

    @property
    def planned(self) -> bool:
        """Whether all shards are known."""
        return self._book.planned

    @property
    def complete(self) -> bool:
        """Whether every shard has been handed to the merge."""
        return self._book.complete

    def finish(self) -> None:
        """Have the output finished. `Merged` with sizes tells when it is."""
        assert self._merger is not None
        self.finishing = True
        self._merger.finish(self._note_finished)

    def _note_finished(self, output_bytes: int, error_bytes: int) -> None:
        """Write down what the output will be, in the merge's thread; the loop leaves the manifest alone by now.

        Before the output appears under its name: a run killed in between knows the output as its own.
        """
        errors = self._config.errors_path
        before = self._manifest.finished
        self._manifest.finished = Finished(
            output=str(self._config.output_path.resolve()),
            output_bytes=output_bytes,
            errors=str(errors.resolve()) if error_bytes or errors.exists() else None,
            error_bytes=error_bytes,
            replaces=None if before is None else bytes_of(self._config.output_path),
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        manifests.save(self._directory.manifest, self._manifest)

    def _merge(self, sealed: Sealed) -> None:
        assert self._merger is not None
        self._progress.sealed(sealed.shard.number, sealed.totals)
        for ready in self._book.sealed(self._directory.sealed_path(sealed.shard), sealed):
            self._merger.append(*ready)
