"""From the plan to the output: shards are planned, handed out, come back sealed, and are merged in their order."""

import time
from collections.abc import Iterable

from engine.errors import MachineError
from engine.ledger import Ledger
from engine.preparation import Prepared
from engine.records import Shard
from engine.shard_book import ShardBook
from engine.store import manifest as manifests
from engine.store.manifest import Finished
from engine.store.seal import Sealed, read_sealed
from engine.threads import Mailbox, MergeThread, Planned, Planner


class Assembly:
    """The shards of one run and its output. Its two threads leave what they have done in the mailbox.

    finishing: every shard has been handed to the merge. finished: the output is in its place.
    """

    def __init__(self, prepared: Prepared, ledger: Ledger, mailbox: Mailbox) -> None:
        self._config = prepared.config
        self._directory = prepared.directory
        self._manifest = prepared.manifest
        self._prepared = prepared
        self._ledger = ledger
        self._mailbox = mailbox
        self._book = ShardBook()
        self._planner: Planner | None = None
        self._merger: MergeThread | None = None
        self.finishing = False
        self.finished = False

    def open_output(self) -> None:
        """Start to merge whatever is sealed."""
        self._merger = MergeThread(self._config.output_path, self._config.errors_path, self._mailbox)

    def start_planning(self) -> None:
        """Start to plan, or take the plan that an earlier session brought to its end."""
        prepared = self._prepared
        if prepared.shards is None:
            self._planner = Planner(
                prepared.input, self._manifest.shard_bytes, self._manifest.shard_rows, self._mailbox
            )
        else:
            prepared.input.close()
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
            done = sealed is not None and sealed.shard == shard
            self._book.add(shard, sealed=done)
            if done and sealed is not None:
                self._merge(sealed)
        if planned.last:
            self._book.planned = True
            self._ledger.total_rows = self._book.rows
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

    def next_to_assign(self) -> Shard | None:
        """Take the next shard that nobody works on."""
        return self._book.next_to_assign()

    def give_back(self, shards: Iterable[Shard]) -> None:
        """Put shards of a worker that is gone first in line again."""
        self._book.give_back(shards)

    @property
    def complete(self) -> bool:
        """Whether every shard has been handed to the merge."""
        return self._book.complete

    def finish(self) -> None:
        """Have the output finished. `Merged` with sizes tells when it is."""
        assert self._merger is not None
        self.finishing = True
        # Written before the output appears under its name: a run killed in between knows the output as its own.
        errors = self._config.errors_path
        self._manifest.finished = Finished(
            output=str(self._config.output_path.resolve()),
            output_bytes=self._book.output_bytes,
            errors=str(errors.resolve()) if self._book.error_bytes or errors.exists() else None,
            error_bytes=self._book.error_bytes,
            at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        manifests.save(self._directory.manifest, self._manifest)
        self._merger.finish()

    def _merge(self, sealed: Sealed) -> None:
        assert self._merger is not None
        self._ledger.sealed(sealed.shard.number, sealed.totals)
        for ready in self._book.sealed(self._directory.sealed_path(sealed.shard), sealed):
            self._merger.append(*ready)
