"""`rowmill cancel`: the batches of a run are cancelled at the provider. The next `rowmill run` takes in what they did.

Where no run is at work, what nobody can fetch any more is given up as well: batches that the provider does not know,
and results that it has not kept. Their rows are asked again by the next run, and may be paid twice.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Self

import msgspec

from engine import config as configuration
from engine.config import Config
from engine.delivery import delivery_of, staged
from engine.errors import ExitCode, ProviderError, RunDirectoryError
from engine.session import embedded
from engine.store import durable
from engine.store import manifest as manifests
from engine.store.batch_journal import BatchJournal, Try
from engine.store.run_directory import RunDirectory
from engine.transport.batches import BatchApi, BatchTrouble

_READY_S = 60.0


def cancel(config: Config, environ: Mapping[str, str], log: Callable[[str], None]) -> int:
    """Cancel what runs at the provider, and return the exit code. `log` is told of each batch, in a line.

    Raises `RunDirectoryError` where there is no run, `ProviderError` where the provider cannot be asked.
    """
    if (delivery := delivery_of(config)) is not None:
        config = staged(config, delivery)
    directory = RunDirectory(config.run_dir)
    manifest = manifests.load(directory.manifest)
    if manifest is None:
        raise RunDirectoryError(f"{config.run_dir} holds no run: there is nothing to cancel")
    endpoint = configuration.endpoint(config.batch_provider, environ)
    simulator = embedded(config) if endpoint.base_url == configuration.SIMULATOR else None
    if simulator is not None:
        simulator.start()
    try:
        if simulator is not None:
            simulator.wait_ready(_READY_S)
            endpoint = msgspec.structs.replace(endpoint, base_url=simulator.base_url)
        with _Journal(directory, manifest.run_id) as journal:
            api = BatchApi(endpoint, rng=Random(), publish=durable.publish_written)  # noqa: S311 - jitter, no secret
            asyncio.run(_cancel(api, journal, manifest.run_id, log))
    finally:
        if simulator is not None:
            simulator.stop()
    return ExitCode.OK


class _Journal:
    """The tries of a run that are not over; written to only where no run is at work."""

    def __init__(self, directory: RunDirectory, run: str) -> None:
        self._directory = directory
        self._run = run
        self._lock: RunDirectory | None = None
        self._file: BatchJournal | None = None

    def __enter__(self) -> Self:
        path = self._directory.batches / "journal"
        if self._directory.holder() is None and path.exists():
            self._lock = RunDirectory.open(self._directory.path)
            self._file = BatchJournal.open(path, self._run)
            newest = self._file.current()
        else:
            newest = list({t.part: t for t in BatchJournal.read(path)}.values())
        self.tries = [t for t in newest if t.open and t.creations]
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            self._lock.close()

    @property
    def folder(self) -> Path:
        return self._directory.batches

    @property
    def ours(self) -> bool:
        """Whether no run is at work, so that steps may be noted."""
        return self._file is not None

    def created(self, t: Try, batch_id: str, created_at: float) -> None:
        if self._file is not None:
            self._file.created(t, batch_id, created_at, time.time())

    def cancelling(self, t: Try) -> None:
        if self._file is not None:
            self._file.cancelling(t, time.time())

    def given_up(self, t: Try, reason: str) -> None:
        if self._file is not None:
            self._file.given_up(t, reason, time.time())


async def _cancel(api: BatchApi, journal: _Journal, run: str, log: Callable[[str], None]) -> None:
    try:
        for t in journal.tries:
            try:
                await _cancel_one(api, journal, t, run, log)
            except BatchTrouble as trouble:
                if not trouble.gone:
                    raise ProviderError(f"{t.batch_id or 'a batch'}: {trouble.failure.message}") from None
                _give_up(journal, t, log)
        if not journal.tries:
            log("no batch of this run is under way")
    finally:
        await api.close()


async def _cancel_one(api: BatchApi, journal: _Journal, t: Try, run: str, log: Callable[[str], None]) -> None:
    if t.phase == "ended":
        # Its results are brought home: the next run finds them here.
        for kind, file_id in (("output", t.output_file_id), ("errors", t.error_file_id)):
            path = journal.folder / f"{t.file_name(run)}.{kind}"
            if file_id is not None and journal.ours and not path.exists():
                await api.download(file_id, path)
        return
    if t.phase == "creating":
        found = await api.find(t.metadata(run), since=t.since)
        if not found:
            return
        journal.created(t, found[0].id, found[0].created_at)
    batch = t.batch_id if t.batch_id is not None else found[0].id
    if t.phase == "created":
        journal.cancelling(t)
    state = await api.cancel(batch)
    log(f"part {t.part}: batch {batch} is {state.status}")


def _give_up(journal: _Journal, t: Try, log: Callable[[str], None]) -> None:
    if not journal.ours:
        log(f"part {t.part}: the provider does not know batch {t.batch_id} any more; the run at work will say so")
        return
    journal.given_up(t, "the provider does not know it any more")
    log(
        f"part {t.part}: the provider does not know batch {t.batch_id} or its results any more; the next run asks for "
        f"its {t.requests} requests again, which may be paid twice"
    )
