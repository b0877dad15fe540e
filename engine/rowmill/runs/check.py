"""`rowmill check`: everything that a run looks at before it starts, then one real request for one real row.

Nothing is written. The request costs what a row costs; its answer is shown and not kept.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from rowmill.budget import prices as money
from rowmill.core.checked import Checked, ProviderCheck
from rowmill.core.config import (
    OPENAI_URL,
    SIMULATOR,
    Config,
    ProviderConfig,
    credentials,
    env_file,
    preset_defaults,
    steps,
)
from rowmill.core.errors import BadReply, Declined, InvalidOutput, InvalidRow
from rowmill.core.leases import LimitSample
from rowmill.core.plain_text import clipped, stripped
from rowmill.core.request_form import RequestForm
from rowmill.core.wire import Answer, Endpoint, Failure, Reply
from rowmill.files import remote
from rowmill.runs.begun import find_input
from rowmill.runs.notify.notifier import Notifier
from rowmill.runs.plan.preview import shortened
from rowmill.runs.plan.trials import live
from rowmill.runs.preparation import (
    LookedAt,
    already_finished,
    doubts,
    looked_at,
    refuse_models_of_rows,
    settled,
)
from rowmill.runs.session import embedded
from rowmill.runs.steps import rows_of_steps
from rowmill.supervisor.endpoints import EndpointStart
from rowmill.tasks import Task, forms
from rowmill.transport import Transport, dead_ends, faults, limit_headers, open_transport
from rowmill.transport.refused_forms import refused_part

_LONGEST_S = 120.0  # that a reply may take: who checks sits and waits
_OK = 200


def check(config: Config, environ: Mapping[str, str], *, ask: bool = True) -> Checked:
    """Check a configuration; ask: also by a request to each provider. Raises `RowmillError`s as a run would."""
    found = find_input(config)
    config = settled(config, found)
    refuse_models_of_rows(config)
    Notifier(config, environ)
    looked = looked_at(config, environ, found, {"input.limit": None, "input.sample": None})
    looks = [_Look(config, number, looked, rows, environ) for number, rows in enumerate(rows_of_steps(config, found))]
    row, body = looks[0].row, looks[0].body
    checked = Checked(
        input=found.where,
        format=found.format if found.delimiter is None else f"{found.format} with {found.delimiter}",
        columns=[column.name for column in found.columns()],
        row=row,
        request=shortened(body),
        run=_run(looked),
        output=remote.shown(config.output.path) if remote.is_remote(config.output.path) else config.output.path,
        notices=[*found.notes, *doubts(looked.config, found, looked.tasks)],
        providers=[provider for look in looks for provider in look.providers],
    )
    if ask and row is not None:
        for look in looks:
            look.ask()
    return checked


class _Look:
    """What a step asks first, and of whom. Raises `ConfigError`."""

    def __init__(
        self, config: Config, number: int, looked: LookedAt, rows: Iterable[bytes], environ: Mapping[str, str]
    ) -> None:
        own = steps.of_step(config, number)
        self._asked = live(own)
        self._task = looked.tasks[number]
        prices = money.find(self._asked)
        money.require(own, prices)
        self.row, self.body = _first(self._task, rows)
        self._endpoints = looked.endpoints[number]
        self._several = len(config.provider)
        of = f" in step {config.step[number].name}" if config.step else ""
        self.providers = [
            ProviderCheck(
                name=f"{provider.name}{of}",
                url=SIMULATOR if provider.base_url == SIMULATOR else dead_ends.url_of(endpoint, own.task.api),
                key=_key(provider, endpoint, environ),
                preset=preset_defaults.given(own, provider),
                model=None if own.names_models else own.model_of(provider),
                price=None if price is None else (price.input, price.output),
            )
            for provider, endpoint, price in zip(own.provider, self._endpoints, prices, strict=True)
        ]

    def ask(self) -> None:
        """Ask each provider the first row, and note what comes of it."""
        if self.row is None:
            return
        starting = EndpointStart(self._endpoints, embedded(self._asked), providers=self._several)
        try:
            resolved = starting.wait()
            asyncio.run(_ask_all(self._asked, resolved, self._task, self.body, self.providers))
        finally:
            starting.end()


def _run(looked: LookedAt) -> str:
    """Say what there is of the run."""
    if looked.manifest is None:
        return ""
    state = "has finished" if already_finished(looked.config, looked.manifest) else "goes on"
    return f"{state}: {looked.config.run_dir}"


def _first(task: Task, rows: Iterable[bytes]) -> tuple[int | None, bytes]:
    """Return the number of the first row that can become a request, and the request's body."""
    for number, line in enumerate(rows):
        with suppress(InvalidRow):
            request = task.build(line)
            return number, (task.pack([request]) if task.rows_per_request > 1 else request).body
    return None, b""


def _key(provider: ProviderConfig, endpoint: Endpoint, environ: Mapping[str, str]) -> str:
    """Say which variables the key and other secrets are in, and which of them are from a file."""
    headers = ", ".join(
        f"{header} from {env_file.source(environ, name)}" for header, name in provider.headers_env.items()
    )
    name = credentials.key_variable(provider)
    if endpoint.key is not None and name is not None:
        return f"from {env_file.source(environ, name)}{f'; {headers}' if headers else ''}"
    own = provider.base_url.rstrip("/") == OPENAI_URL
    return headers or ("none" if own else "none: api_key_env names none")


async def _ask_all(
    config: Config, endpoints: list[Endpoint], task: Task, body: bytes, providers: list[ProviderCheck]
) -> None:
    asked = []
    for provider, endpoint, said in zip(config.provider, endpoints, providers, strict=True):
        own = body if provider.model is None else task.asking(provider.model)(body)
        asked.append(_ask_one(config, provider, endpoint, task, own, said=said))
    await asyncio.gather(*asked)


async def _ask_one(
    config: Config, provider: ProviderConfig, endpoint: Endpoint, task: Task, body: bytes, *, said: ProviderCheck
) -> None:
    endpoint = msgspec.structs.replace(endpoint, timeout_s=min(endpoint.timeout_s, _LONGEST_S))
    said.url = dead_ends.url_of(endpoint, config.task.api)
    transport = open_transport(config.client.transport, endpoint, api=config.task.api, concurrency=1)
    began = time.monotonic()
    try:
        reply, form = await _sent(config, provider, transport, body)
    finally:
        await transport.close()
    said.sent, said.seconds, said.form = True, time.monotonic() - began, form.words

    def clean(text: str) -> str:
        return clipped(stripped(faults.redacted(text, endpoint.secrets)))

    if isinstance(reply, Failure):
        said.ok, said.problem = False, clean(dead_ends.told(reply, said.url))
        return
    said.status = reply.status
    requests, tokens, _ = limit_headers.read(reply.header)
    said.requests_limit, said.tokens_limit = _limit(requests), _limit(tokens)
    answer = _answer(task, reply)
    said.ok = isinstance(answer, Answer)
    if isinstance(answer, Answer):
        said.answer = clean(answer.output.decode(errors="replace"))
        said.answered_as = clean(_text(answer.model))
        said.tokens = (answer.prompt_tokens, answer.completion_tokens)
        return
    said.body = clean(reply.body.decode(errors="replace"))
    if isinstance(answer, Failure):
        said.problem = clean(dead_ends.told(answer, said.url))
    else:
        said.problem = clean(answer)


async def _sent(
    config: Config, provider: ProviderConfig, transport: Transport, body: bytes
) -> tuple[Reply | Failure, RequestForm]:
    """Send a request in the form that the provider wants, as a run finds it out; returns what came, and the form."""
    form = provider.form
    while True:
        by = forms.former(config.task, form)
        reply = await transport.send(body if by is None else by.form(body))
        if isinstance(reply, Failure):
            return reply, form
        failure = faults.classify(reply)
        if failure is None:
            with suppress(BadReply):  # who reads it will say so
                reply = Reply(reply.status, reply.body if by is None else by.read(reply.body), reply.header)
            return reply, form
        part = refused_part(failure, form)
        following = form.without(part) if part in config.open_parts(provider) else None
        if following is None:
            return reply, form
        form = following


def _answer(task: Task, reply: Reply) -> Answer | Failure | str:
    """Return what a reply says: an answer, or why it is none."""
    if reply.status != _OK and (failure := faults.classify(reply)) is not None:
        return failure
    try:
        if task.rows_per_request == 1:
            return task.parse(reply.body)
        (result,) = task.unpack(reply.body, 1)
    except (Declined, BadReply) as error:
        return faults.inside(reply) or f"the reply is no answer: {error}"
    except InvalidOutput as invalid:
        result = invalid
    if isinstance(result, InvalidOutput):
        return f"the reply does not fit task.schema: {result}; a run shows the model what is wrong, and asks again"
    return result


def _limit(sample: LimitSample | None) -> tuple[float, float] | None:
    return None if sample is None else (sample.limit, sample.reset_s)


def _text(value: bytes) -> str:
    with suppress(ValueError):
        text = msgspec.json.decode(value)
        if isinstance(text, str):
            return text
    return ""
