"""Reading the input for a plan: every row is counted, and as many as it takes are built into requests and sized.

An input of up to 100,000 rows is read whole. Of a larger one about 50,000 rows are: the first ones of shards that lie
evenly over the input, each standing for its whole shard. The spread between the shards says how far that may be off.
Of rows that name documents some hundred are read.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from math import ceil
from os import W_OK, access
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from rowmill.core.config import Config
from rowmill.core.errors import InvalidRow
from rowmill.core.rows import InputPart, Shard
from rowmill.core.sums import Sums
from rowmill.core.wire import Request
from rowmill.files.input.inputs import Input
from rowmill.files.input.shard_readers import open_reader
from rowmill.runs.plan.sampling import spread_of_clusters
from rowmill.runs.plan.sizes import size_of
from rowmill.runs.preparation import shard_bytes, shard_rows
from rowmill.tasks import Task
from rowmill.tasks.api import OWN_MODEL, PACK_BYTES

_ALL = 100_000  # rows that are all read
_SOME = 50_000  # rows of a larger input
_DOCUMENTS = 400  # rows, of those whose documents have to be read
_CLUSTERS = 40  # shards of it, at least where there are as many
_KEY = 16  # bytes of a request's digest


class RequestSums(Sums):
    """What requests add up to."""

    requests: float = 0.0
    prompt: float = 0.0  # tokens
    least_reply: float = 0.0
    reply: float = 0.0
    most_reply: float = 0.0
    body_bytes: float = 0.0

    def times(self, factor: float) -> "RequestSums":
        """Return so many times these."""
        return RequestSums(*(factor * figure for figure in msgspec.structs.astuple(self)))


class Survey(msgspec.Struct):
    """What was found.

    by_model: scaled to the whole input, by the model that the rows name; under None where they name none. spread: how
    far the prompt tokens may be off for the rows that were not read, as a part of them.
    """

    shards: int = 0
    rows: int = 0
    read: int = 0
    invalid: float = 0.0  # of all rows
    first_invalid: str | None = None
    duplicates: float = 0.0  # requests of all rows that are like an earlier one that was read
    by_model: dict[str | None, RequestSums] = msgspec.field(default_factory=dict)
    spread: float = 0.0
    first: Request | None = None
    first_rows: int = 0  # in that request
    caps: set[int | None] = msgspec.field(default_factory=set)  # of replies to one row

    @property
    def whole(self) -> bool:
        """Whether every row was read."""
        return self.read == self.rows

    @property
    def sums(self) -> RequestSums:
        """All models together."""
        return RequestSums.total(self.by_model.values())


class _Cluster(msgspec.Struct):
    """What one shard adds up to, as far as it was read."""

    shard: Shard
    read: int = 0
    invalid: int = 0
    duplicates: int = 0
    by_model: defaultdict[str | None, RequestSums] = msgspec.field(default_factory=lambda: defaultdict(RequestSums))


def survey_input(config: Config, found: Input, task: Task, *, run: Config | None = None) -> Survey:
    """Read the input. Writes nothing that stays. `config` is settled, as `preparation` does it.

    run: that of the whole run, where `config` is a step's; it says how the input is cut. Raises `RowmillError`s, as
    the planning of a run does.
    """
    with _spool(config, found) as spool:
        cut = run or config
        shards = found.plan(spool, shard_bytes=shard_bytes(cut, found), shard_rows=shard_rows(cut))
        return asyncio.run(_Surveyor(config, task, found.parts(spool)).read(list(shards)))


@contextmanager
def _spool(config: Config, found: Input) -> Iterator[Path]:
    """Give a directory for rows that cannot be read in place, where a run would put them: it has the room, if any."""
    here = config.run_dir.parent
    with_room = here if here.is_dir() and access(here, W_OK) else None
    if not found.spooled(Path()):
        yield Path()
        return
    with TemporaryDirectory(prefix=".rowmill-plan-", dir=with_room) as folder:
        yield Path(folder)


def chosen(shards: Sequence[Shard], *, documents: bool = False) -> tuple[list[Shard], int]:
    """Return which shards are read, and how many rows of each at most. documents: rows have some to be read."""
    whole, some = (_DOCUMENTS, _DOCUMENTS) if documents else (_ALL, _SOME)
    rows = sum(shard.rows for shard in shards)
    if rows <= whole:
        return list(shards), rows
    count = min(len(shards), max(_CLUSTERS, ceil(some * len(shards) / rows)))
    step = len(shards) / count
    return [shards[int((place + 0.5) * step)] for place in range(count)], ceil(some / count)


class _Surveyor:
    def __init__(self, config: Config, task: Task, parts: list[InputPart]) -> None:
        self._task = task
        self._api = config.task.api
        # In a batch file every body names a model; of other rows those that name their own begin differently.
        self._naming: bytes | None = None
        if config.names_models:
            self._naming = b"" if config.input.format == "batch" else OWN_MODEL
        self._parts = parts
        self._seen: set[bytes] | None = None if config.cache.use == "off" else set()
        self._found = Survey()

    async def read(self, shards: Sequence[Shard]) -> Survey:
        self._found.shards, self._found.rows = len(shards), sum(shard.rows for shard in shards)
        picked, most = chosen(shards, documents=self._task.documents is not None)
        self._scale([await self._cluster(shard, most) for shard in picked])
        return self._found

    async def _cluster(self, shard: Shard, most: int) -> _Cluster:
        cluster = _Cluster(shard)
        pack: list[Request] = []
        size = 0
        async for line in self._lines(shard, most):
            cluster.read += 1
            try:
                request = self._task.build(line)
            except InvalidRow as error:
                cluster.invalid += 1
                if self._found.first_invalid is None:
                    self._found.first_invalid = f"row {shard.first_row + cluster.read - 1}: {error}"
                continue
            if self._task.rows_per_request == 1:
                self._take(cluster, request, 1)
                continue
            if pack and (size + len(line) > PACK_BYTES or len(pack) >= self._task.rows_per_request):
                self._take(cluster, self._task.pack(pack), len(pack))
                pack, size = [], 0
            pack.append(request)
            size += len(line)
        if pack:
            self._take(cluster, self._task.pack(pack), len(pack))
        return cluster

    async def _lines(self, shard: Shard, most: int) -> AsyncIterator[bytes]:
        left = min(most, shard.rows)
        async with open_reader(self._parts[shard.part], shard, self._task.columns) as reader:
            while left > 0 and (lines := await reader.read()):
                for line in lines[:left]:
                    yield line
                left -= len(lines)

    def _take(self, cluster: _Cluster, request: Request, rows: int) -> None:
        found = self._found
        if found.first is None:
            found.first, found.first_rows = request, rows
        if self._seen is not None:
            key = blake2b(request.body, digest_size=_KEY).digest()
            if key in self._seen:
                cluster.duplicates += 1
                return
            self._seen.add(key)
        size = size_of(request.body, self._api, rows)
        found.caps.add(size.cap)
        naming = self._naming
        name = size.model if naming is not None and request.body.startswith(naming) else None
        sums = cluster.by_model[name]
        sums.requests += 1
        sums.prompt += size.prompt
        sums.least_reply += size.least_reply
        sums.reply += size.reply
        sums.most_reply += size.most_reply
        sums.body_bytes += len(request.body)

    def _scale(self, clusters: Sequence[_Cluster]) -> None:
        """Let every shard that was read stand for itself, and all of them for those that were not."""
        found = self._found
        found.read = sum(cluster.read for cluster in clusters)
        held = sum(cluster.shard.rows for cluster in clusters)
        totals = []
        for cluster in clusters:
            own = cluster.shard.rows / cluster.read if cluster.read else 0.0
            times = own * found.rows / held
            found.invalid += times * cluster.invalid
            found.duplicates += times * cluster.duplicates
            for name, sums in cluster.by_model.items():
                found.by_model.setdefault(name, RequestSums()).add(sums.times(times))
            totals.append(own * sum(sums.prompt for sums in cluster.by_model.values()))
        share = found.read / found.rows if found.rows else 1.0
        found.spread = spread_of_clusters(totals, [cluster.shard.rows for cluster in clusters], share)
