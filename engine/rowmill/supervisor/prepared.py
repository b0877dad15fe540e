"""A run that can start: what preparation hands to the supervisor."""

import calendar
import time
from dataclasses import dataclass, replace

import msgspec

from rowmill.budget.cost import CostCalculator
from rowmill.core.amounts import Price
from rowmill.core.config import Config
from rowmill.core.rows import Layout, Shard, StepOfRun
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
class PreparedStep:
    """One question of a run; most have no other."""

    config: Config  # of this step alone, as that of a run of its own
    providers: tuple[int, ...]  # that it may ask, by their numbers in the run's configuration, as `config` has them
    endpoints: list[Endpoint]  # one for each of them; the simulator's without its address yet
    prices: list[Price | None]  # of the model that each is asked for; None where unknown
    layout: Layout
    worker: StepOfRun | None  # what its workers know of it; None where there is no other step

    @property
    def name(self) -> str:
        """What people call it; empty where there is no other."""
        return "" if self.worker is None else self.worker.name

    @property
    def folder(self) -> str | None:
        """Where its shards lie in the run directory, as `of_step` has it."""
        return None if self.worker is None or self.worker.last else self.worker.name


@dataclass
class Prepared:
    """A run that can start."""

    config: Config  # formats and schema are settled; of several steps the last one's task and output lines
    steps: list[PreparedStep]
    directory: RunDirectory  # locked
    manifest: Manifest
    input: Input
    delivery: Delivery | None  # where the output is to go that is written in the run directory
    cached: int  # serial of the last reply that the cache had before; 0 where there is none
    shards: list[Shard] | None  # the frozen plan, where an earlier session brought it to its end
    resumed: bool
    notices: list[str]  # what a new run is told before it asks
    new_rows: int = 0  # that came behind those that were planned
    completed: bool = False  # the first of them had begun by then, and was taken for a row as far as it was there

    @property
    def calculator(self) -> CostCalculator:
        """What the run has cost, worked out by its prices."""
        steps = [(each.config, each.prices) for each in self.steps]
        return CostCalculator(self.config, self.steps[0].prices, steps if len(steps) > 1 else ())

    def step(self, name: str) -> PreparedStep:
        """Return the step that is called so; the first one, where there is only that, or none such any more."""
        return next((each for each in self.steps if each.name == name), self.steps[0])

    @property
    def secrets(self) -> tuple[str, ...]:
        """All that is never to be shown."""
        return self.steps[0].endpoints[0].secrets

    @property
    def deadline(self) -> float | None:
        """Unix time by which all answers are to be there; None where there is no such time."""
        if self.config.task.mode != "auto" or self.config.batch.deadline_s is None:
            return None
        return calendar.timegm(time.strptime(self.manifest.created, MOMENT)) + self.config.batch.deadline_s

    def again(self) -> "Prepared":
        """Return the same for another session of the run, right after one: some of it is done by now."""
        return replace(self, resumed=True, notices=[], shards=manifests.load_plan(self.directory.plan))
