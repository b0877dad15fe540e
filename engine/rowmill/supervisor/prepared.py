"""A run that can start: what preparation hands to the supervisor."""

import calendar
import time
from dataclasses import dataclass, replace

import msgspec

from rowmill.core.amounts import Price
from rowmill.core.config import Config
from rowmill.core.rows import Layout, Shard
from rowmill.core.wire import Endpoint
from rowmill.files.input.inputs import Input
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Manifest
from rowmill.store.run_directory import RunDirectory

MOMENT = "%Y-%m-%dT%H:%M:%SZ"  # UTC


class Delivery(msgspec.Struct, frozen=True):
    """Where the files of a run are to go."""

    output: str  # URLs
    errors: str


@dataclass
class Prepared:
    """A run that can start."""

    config: Config  # formats and schema are settled
    endpoints: list[
        Endpoint
    ]  # one for each provider, in the configuration's order; the simulator's without its address yet
    directory: RunDirectory  # locked
    manifest: Manifest
    input: Input
    layout: Layout
    delivery: Delivery | None  # where the output is to go that is written in the run directory
    cached: int  # serial of the last reply that the cache had before; 0 where there is none
    shards: list[Shard] | None  # the frozen plan, where an earlier session brought it to its end
    resumed: bool
    prices: list[Price | None]  # of the model that each provider is asked for; None where unknown
    notices: list[str]  # what a new run is told before it asks
    new_rows: int = 0  # that came behind those that were planned
    completed: bool = False  # the first of them had begun by then, and was taken for a row as far as it was there

    @property
    def deadline(self) -> float | None:
        """Unix time by which all answers are to be there; None where there is no such time."""
        if self.config.task.mode != "auto" or self.config.batch.deadline_s is None:
            return None
        return calendar.timegm(time.strptime(self.manifest.created, MOMENT)) + self.config.batch.deadline_s

    def again(self) -> "Prepared":
        """Return the same for another session of the run, right after one: some of it is done by now."""
        return replace(self, resumed=True, notices=[], shards=manifests.load_plan(self.directory.plan))
