"""What a worker has open while it runs, made of its setup: board, providers, and what not every run needs."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import UNSET

from rowmill.core import tallies
from rowmill.core.amounts import Amount
from rowmill.core.wire import Answer, Failure
from rowmill.ipc.messages import Setup, ToSupervisor
from rowmill.store.in_flight import BoardHead, InflightBoard
from rowmill.store.run_directory import RunDirectory
from rowmill.tasks import Task
from rowmill.transport import dead_ends, faults, open_transport
from rowmill.worker.job import Job
from rowmill.worker.live.provider import Provider

if TYPE_CHECKING:
    from rowmill.core.config import Config, TaskConfig
    from rowmill.core.request_form import RequestForm
    from rowmill.store.cache.claims import Claims
    from rowmill.tasks.forms import Former  # only where a provider wants it
    from rowmill.worker.finish_rules import FinishRules  # only where the configuration names reasons
    from rowmill.worker.live.carried_claims import CarriedClaims
    from rowmill.worker.live.dedup import Dedup  # sqlite3 and all: only where requests are shared
    from rowmill.worker.live.reservations import Reservations  # only where there is a budget


def board(setup: Setup, directory: RunDirectory) -> InflightBoard:
    """Make the board. Whoever finds it there removes it, once what it says is written down."""
    names = [provider.name for provider in setup.config.provider]
    counts = tallies.names(len(names), faults.TABLE)
    step = UNSET if setup.step is None else setup.step.name
    head = BoardHead(f"{setup.session}-{setup.incarnation}", setup.slots, names, counts, step)
    return InflightBoard.create(directory.board_path(setup.incarnation), setup.slots, head)


def providers(setup: Setup, task: Task) -> list[Provider]:
    """Open the transports of all providers."""
    config = setup.config
    numbers = {provider.name: number for number, provider in enumerate(config.provider)}
    opened = [
        Provider(
            number,
            provider.name,
            open_transport(config.client.transport, endpoint, api=config.task.api, concurrency=setup.slots),
            weight=provider.weight,
            secrets=endpoint.secrets,
            fallback=[numbers[name] for name in provider.fallback],
            fallback_on=provider.fallback_on,
            rewrite=None if provider.model is None else task.asking(provider.model),
            most_output=task.reply_tokens,
            by_model=config.names_models,
            model=config.model_of(provider),
            workers=setup.workers,
            failed_before=setup.retry_failed,
            url=dead_ends.url_of(endpoint, config.task.api),
            former_of=partial(_former_of, config.task),
            form=provider.form,
            open_parts=config.open_parts(provider),
            grows=config.retry.grows,
        )
        for number, (provider, endpoint) in enumerate(zip(config.provider, setup.endpoints, strict=True))
    ]
    for known in setup.forms:
        opened[known.provider].take_form(known.form, 0.0, known.model)
    return opened


def _former_of(config: "TaskConfig", form: "RequestForm", models: "Mapping[str, RequestForm]") -> "Former | None":
    from rowmill.tasks.forms import former

    return former(config, form, models)


def finish_rules(config: "Config") -> "FinishRules | None":
    """Open what the configuration says of how replies end; None where it says nothing."""
    if not config.minds_ends:
        return None
    from rowmill.worker.finish_rules import FinishRules

    return FinishRules(config)


def reservations(setup: Setup, on_short: Callable[[Amount, Amount], None]) -> "Reservations":
    """Open what is reserved of the budget."""
    from rowmill.budget.credit import Credit
    from rowmill.worker.live.reservations import Reservations

    return Reservations(Credit(), setup.prices, on_short)


def claims(setup: Setup, directory: Path) -> "Claims":
    """Open the claims of the run."""
    from rowmill.store.cache.claims import Claims

    return Claims(directory, setup.claimant)


def carried_claims(setup: Setup, tell: Callable[[ToSupervisor], None]) -> "CarriedClaims":
    """Open the claims of the run where they are asked for by messages."""
    from rowmill.worker.live.carried_claims import CarriedClaims

    return CarriedClaims(setup.cached, tell)


def dedup(
    setup: Setup,
    claims: "Claims | CarriedClaims",
    *,
    record: Callable[[Job, Answer | Failure, float], None],
    send: Callable[[list[Job]], None],
    note: Callable[[str], None],
) -> "Dedup":
    """Open what the workers share of their requests; `record`, `send` and `note` as in `Dedup`."""
    from rowmill.store.cache.kept_replies import Replies
    from rowmill.store.cache.keys import salt
    from rowmill.worker.live.dedup import Dedup

    cache = setup.config.cache
    return Dedup(
        salt=salt(setup.config),
        claims=claims,
        replies=Replies(Path(cache.dir).expanduser(), cache.max_mb) if cache.use == "disk" else None,
        record=record,
        send=send,
        note=note,
    )
