"""The plan and the output of a run: the planner's shards are handed to the schedulers, sealed ones to the merger."""

import time

from rowmill.core.errors import MachineError
from rowmill.core.plain_text import place_of
from rowmill.core.rows import Shard
from rowmill.files.output import open_codec
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Finished, bytes_of
from rowmill.store.run_directory import ShardFiles
from rowmill.store.seal import Sealed, read_sealed
from rowmill.supervisor.mailbox import Mailbox, Merged, Planned
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.progress import Progress
from rowmill.supervisor.step_schedulers import StepSchedulers
from rowmill.supervisor.threads import MergeThread, Planner


class ShardPipeline:
    """Plans the input into shards, and merges those that are sealed. Its threads leave what they did in the mailbox.

    finishing: every shard has been handed to the merge. finished: the output is in its place; failures: rows by class
    then.
    """

    def __init__(
        self,
        prepared: Prepared,
        scheduler: StepSchedulers,
        progress: Progress,
        mailbox: Mailbox,
        *,
        retry: bool = False,
    ) -> None:
        """`retry`: shards with failed rows are done again."""
        self._config = prepared.config
        self._directory = prepared.directory
        self._manifest = prepared.manifest
        self._prepared = prepared
        self._progress = progress
        self._mailbox = mailbox
        self._retry = retry
        self._codecs = [open_codec(each.config.output, each.layout, each.worker) for each in prepared.steps]
        self._files: list[ShardFiles] = [prepared.directory.of_step(each.folder) for each in prepared.steps]
        self._scheduler = scheduler
        self._planner: Planner | None = None
        self._merger: MergeThread | None = None
        self.finishing = False
        self.finished = False
        self.failures: dict[str, int] = {}

    def open_output(self) -> None:
        """Start to merge whatever is sealed."""
        config = self._config
        self._merger = MergeThread(config.output_path, config.errors_path, self._mailbox, self._codecs[-1])

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
            done = self._sealed_before(shard)
            self._scheduler.add(shard, sealed=len(done))
            for step, sealed in enumerate(done):
                self._seal(step, sealed)
        if planned.last:
            self._scheduler.all_planned()
            self._progress.total_rows = self._scheduler.rows
            if self._prepared.shards is None:
                manifests.save_plan(self._directory.plan, self._scheduler.shards)

    def _sealed_before(self, shard: Shard) -> list[Sealed]:
        """Return what earlier sessions have sealed of a shard, in each of the steps that it has come through."""
        done: list[Sealed] = []
        if not self._prepared.resumed:
            return done
        for files, codec in zip(self._files, self._codecs, strict=True):
            sealed = read_sealed(files.sealed_path(shard))
            # One of another output format is as good as none: a worker makes it again from its checkpoint.
            if sealed is None or sealed.shard != shard or sealed.format != codec.key:
                break
            done.append(sealed)
        if not self._retry or not done or not done[-1].totals.failed:
            return done
        for files in self._files:  # whoever goes on after a kill is to find none that has the failures still
            files.sealed_path(shard).unlink(missing_ok=True)
        return []

    def on_sealed(self, step: int, shard: Shard) -> None:
        """Take in a shard that a worker has sealed."""
        sealed = read_sealed(self._files[step].sealed_path(shard))
        if sealed is None:
            raise MachineError(
                f"sealed shard {shard.number} has gone from the run directory; run the same command again"
            )
        self._seal(step, sealed)

    def on_merged(self, merged: Merged) -> None:
        """Take in how far the merge has come."""
        self._progress.shards_merged = merged.shards
        if merged.sizes is not None:
            self.finished = True
            self.failures = merged.failures

    def notices(self) -> tuple[str, ...]:
        """Tell what holds the run back: an input that is still being read, where that takes its time."""
        if self._planner is None or self._scheduler.planned:
            return ()
        size = sum(file.size for file in self._manifest.input)
        share = min(self._planner.read_bytes / size, 1.0) if size else 1.0
        return (f"reading the input: {share:.0%}",)

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
            output=place_of(self._config.output_path),
            output_bytes=output_bytes,
            errors=place_of(errors) if error_bytes or errors.exists() else None,
            error_bytes=error_bytes,
            replaces=None if before is None else bytes_of(self._config.output_path),
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        manifests.save(self._directory.manifest, self._manifest)

    def _seal(self, step: int, sealed: Sealed) -> None:
        assert self._merger is not None
        self._progress.sealed(step, sealed)
        for ready in self._scheduler.seal(step, self._files[step].sealed_path(sealed.shard), sealed):
            self._merger.append(*ready)
