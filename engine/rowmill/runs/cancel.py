"""`rowmill cancel`: the batches of a run are cancelled at the provider. The next `rowmill run` takes in what they did.

Where no run is at work, what nobody can fetch any more is given up as well: batches that the provider does not know,
and results that it has not kept. Their rows are asked again by the next run, and may be paid twice.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

from rowmill.core import config as configuration
from rowmill.core.config import Config
from rowmill.core.errors import ExitCode, ProviderError, RunDirectoryError
from rowmill.core.plain_text import one_line
from rowmill.runs.delivery import delivery_of, staged
from rowmill.runs.session import embedded
from rowmill.store import durable
from rowmill.store import manifest as manifests
from rowmill.store.batch_journal import BatchJournal, Try
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.endpoints import EndpointStart
from rowmill.transport import lazy_types

lazy_types.load_lazily()  # before the openai package is imported: half of what a cancellation takes

from rowmill.transport.batch_api import BatchApi, BatchTrouble  # noqa: E402

_AT_PROVIDER = frozenset({"creating", "created", "ended"})  # phases with a batch, or perhaps with one


def cancel(config: Config, environ: Mapping[str, str], log: Callable[[str], None]) -> int:
    """Cancel what runs at the provider, and return the exit code. `log` is told of each batch, in a line.

    Raises `RunDirectoryError` where there is no run, `ProviderError` where the provider cannot be asked.
    """
    if (delivery := delivery_of(config)) is not None:
        config = staged(config, delivery)
    directory = RunDirectory(config.run_dir)
    directory.refuse_odd()
    manifest = manifests.load(directory.manifest)
    if manifest is None:
        raise RunDirectoryError(f"{config.run_dir} holds no run: there is nothing to cancel")
    simulator = embedded(config) if config.batch_provider.base_url == configuration.SIMULATOR else None
    if simulator is not None and (holder := directory.holder()) is not None:
        raise RunDirectoryError(
            f"{config.run_dir} is in use by process {holder.pid}, and so is the simulator that is part of its run: "
            "interrupt that one first, then cancel"
        )
    # All that share the simulator count, for each has a path of its own there.
    providers = [config.batch_provider] if simulator is None else config.provider
    endpoints = configuration.endpoints(providers, environ, config.client.ca_file)
    starting = EndpointStart(endpoints, simulator)
    try:
        endpoint = starting.wait()[providers.index(config.batch_provider)]
        with _journal(directory, manifest.run_id) as journal:
            api = BatchApi(endpoint, rng=Random(), publish=durable.publish_written)  # noqa: S311 - jitter, no secret
            asyncio.run(
                _cancel(
                    api,
                    journal,
                    directory.batches,
                    manifest.run_id,
                    lambda line: log(one_line(line)),  # ids of batches are the server's words too
                )
            )
    finally:
        starting.end()
    return ExitCode.OK


@contextmanager
def _journal(directory: RunDirectory, run: str) -> Iterator[BatchJournal]:
    """Open the journal: to be written to only where no run is at work."""
    path = directory.journal
    if directory.holder() is not None or not path.exists():
        yield BatchJournal.read(path)
        return
    with RunDirectory.open(directory.path), closing(BatchJournal.open(path, run)) as journal:
        yield journal


async def _cancel(api: BatchApi, journal: BatchJournal, folder: Path, run: str, log: Callable[[str], None]) -> None:
    under_way = [t for t in journal.current() if t.phase in _AT_PROVIDER]
    try:
        for t in under_way:
            try:
                if t.phase != "ended":
                    await _cancel_one(api, journal, t, run, log)
                elif not journal.read_only:
                    await _bring_home(api, folder, t, run)
            except BatchTrouble as trouble:
                if not trouble.gone:
                    raise ProviderError(f"{t.batch_id or 'a batch'}: {trouble.failure.message}") from None
                _give_up(journal, t, log)
        if not under_way:
            log("no batch of this run is under way")
    finally:
        await api.close()


async def _bring_home(api: BatchApi, folder: Path, t: Try, run: str) -> None:
    """Download the results of a batch that has ended: the next run finds them here."""
    for kind, file_id in (("output", t.output_file_id), ("errors", t.error_file_id)):
        path = folder / f"{t.file_name(run)}.{kind}"
        if file_id is not None and not path.exists():
            await api.download(file_id, path, requests=t.requests, rows=t.end_row - t.first_row)


async def _cancel_one(api: BatchApi, journal: BatchJournal, t: Try, run: str, log: Callable[[str], None]) -> None:
    if t.phase == "creating":
        found = await api.find(t.metadata(run), since=t.since)
        if not found:
            log(f"part {t.part}: no batch of it is known to the provider; the next run looks once more")
            return
        # Where there are several, the one that has done most is gone on with.
        most = max(found, key=lambda state: state.completed)
        if not journal.read_only:
            journal.created(t, most.id, most.created_at, time.time())
        batches = [state.id for state in found]
    else:
        assert t.batch_id is not None
        batches = [t.batch_id]
    if not journal.read_only:
        journal.cancelling(t, time.time())
    for batch in batches:
        state = await api.cancel(batch)
        log(f"part {t.part}: batch {batch} is {state.status}")


def _give_up(journal: BatchJournal, t: Try, log: Callable[[str], None]) -> None:
    if journal.read_only:
        log(f"part {t.part}: the provider does not know batch {t.batch_id} any more; the run at work will say so")
        return
    journal.given_up(t, "the provider does not know it any more", time.time())
    log(
        f"part {t.part}: the provider does not know batch {t.batch_id} or its results any more; the next run asks for "
        f"its {t.requests} requests again, which may be paid twice"
    )
