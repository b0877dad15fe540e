"""From the plan to the output: shards are planned, handed out, come back sealed, and are merged in their order.

planned -> assigned     to one worker at a time
assigned -> planned     that worker has died: first in line again
assigned -> sealed      by its worker
planned -> sealed       by an earlier session
sealed -> merging       handed to the merge, once all before it are
"""

import time
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from rowmill.core.errors import MachineError
from rowmill.core.plain_text import place_of
from rowmill.core.rows import Shard
from rowmill.files.output import open_codec
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Finished, bytes_of
from rowmill.store.seal import Sealed, read_sealed
from rowmill.supervisor.mailbox import Mailbox, Merged, Planned
from rowmill.supervisor.prepared import Prepared
from rowmill.supervisor.progress import Progress
from rowmill.supervisor.threads import MergeThread, Planner

State = Literal["planned", "assigned", "sealed", "merging", "left"]

# state -> states that may follow
_MOVES: dict[State, frozenset[State]] = {
    "planned": frozenset({"assigned", "sealed"}),
    "assigned": frozenset({"planned", "sealed", "left"}),
    "sealed": frozenset({"merging"}),
    "merging": frozenset(),
    "left": frozenset(),  # to a later session
}


class ShardScheduler:
    """Where every shard of a run is, as far as the plan is known.

    planned: whether all of them are known.
    """

    def __init__(self) -> None:
        self.shards: list[Shard] = []
        self.planned = False
        self._states: list[State] = []
        self._backlog: deque[Shard] = deque()
        self._sealed: dict[int, tuple[Path, Sealed]] = {}  # waiting for those before them
        self._next_merge = 0

    def __repr__(self) -> str:
        counts = Counter(self._states)
        shown = ", ".join(f"{counts[state]} {state}" for state in _MOVES if counts[state])
        return f"<{shown or 'no shards'}{'' if self.planned else ', more to come'}>"

    def add(self, shard: Shard, *, sealed: bool) -> None:
        """Take in the next shard of the plan; one that an earlier session has sealed is not to be assigned."""
        assert shard.number == len(self.shards), f"shard {shard.number} is not the next one of the plan"
        self.shards.append(shard)
        self._states.append("planned")
        if not sealed:
            self._backlog.append(shard)

    def assign(self) -> Shard | None:
        """Take the next shard that nobody works on."""
        if not self._backlog:
            return None
        shard = self._backlog.popleft()
        self._become(shard, "assigned")
        return shard

    def give_back(self, shards: Iterable[Shard]) -> None:
        """Put shards of a worker that is gone first in line again."""
        for shard in sorted(shards, reverse=True, key=lambda shard: shard.number):
            self._become(shard, "planned")
            self._backlog.appendleft(shard)

    def seal(self, path: Path, sealed: Sealed) -> list[tuple[Path, Sealed]]:
        """Note that a shard is sealed, and return those that can now be merged, in order."""
        self._become(sealed.shard, "sealed")
        self._sealed[sealed.shard.number] = (path, sealed)
        ready = []
        while (following := self._sealed.pop(self._next_merge, None)) is not None:
            self._become(following[1].shard, "merging")
            ready.append(following)
            self._next_merge += 1
        return ready

    def leave(self, shard: Shard) -> None:
        """Note that nothing more of a shard is to be done in this session."""
        self._become(shard, "left")

    @property
    def all_left(self) -> bool:
        """Whether nothing is to be done in this session any more, though not every shard is sealed."""
        return self.planned and "left" in self._states and not {"planned", "assigned"} & {*self._states}

    def _become(self, shard: Shard, state: State) -> None:
        before = self._states[shard.number]
        if state not in _MOVES[before]:
            raise ValueError(f"shard {shard.number} cannot go from {before} to {state}")
        self._states[shard.number] = state

    @property
    def rows(self) -> int | None:
        """The rows of the input; None until they are counted."""
        return sum(shard.rows for shard in self.shards) if self.planned else None

    @property
    def complete(self) -> bool:
        """Whether every shard has been handed to the merge."""
        return self.planned and self._next_merge == len(self.shards)


class ShardPipeline:
    """Plans the input into shards, and merges those that are sealed. Its threads leave what they did in the mailbox.

    finishing: every shard has been handed to the merge. finished: the output is in its place; failures: rows by class
    then.
    """

    def __init__(
        self,
        prepared: Prepared,
        scheduler: ShardScheduler,
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
        self._codec = open_codec(prepared.config.output, prepared.layout)
        self._scheduler = scheduler
        self._planner: Planner | None = None
        self._merger: MergeThread | None = None
        self.finishing = False
        self.finished = False
        self.failures: dict[str, int] = {}

    def open_output(self) -> None:
        """Start to merge whatever is sealed."""
        config = self._config
        self._merger = MergeThread(config.output_path, config.errors_path, self._mailbox, self._codec)

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
            done = sealed is not None and sealed.shard == shard and sealed.format == self._codec.key
            if sealed is not None and self._retry and sealed.totals.failed:
                done = False
            self._scheduler.add(shard, sealed=done)
            if done and sealed is not None:
                self._merge(sealed)
        if planned.last:
            self._scheduler.planned = True
            self._progress.total_rows = self._scheduler.rows
            if self._prepared.shards is None:
                manifests.save_plan(self._directory.plan, self._scheduler.shards)

    def on_sealed(self, shard: Shard) -> None:
        """Take in a shard that a worker has sealed."""
        sealed = read_sealed(self._directory.sealed_path(shard))
        if sealed is None:
            raise MachineError(
                f"sealed shard {shard.number} has gone from the run directory; run the same command again"
            )
        self._merge(sealed)

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

    def _merge(self, sealed: Sealed) -> None:
        assert self._merger is not None
        self._progress.sealed(sealed.shard.number, sealed.totals)
        for ready in self._scheduler.seal(self._directory.sealed_path(sealed.shard), sealed):
            self._merger.append(*ready)
