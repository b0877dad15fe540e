"""How providers want to be asked, as their refusals have shown: told to every worker, and kept for the next session.

A refusal that shows it is asked for once in a run: whoever is started later, or after a kill, asks as is known by then.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress

import msgspec

from rowmill.core.config import Config, hidden
from rowmill.core.request_form import RequestForm
from rowmill.ipc import messages
from rowmill.ipc.messages import Formed, UseForm
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.pool import Member

_MOST_NOTICES = 5  # of models that rows name there may be hundreds


class _Learned(msgspec.Struct, frozen=True):
    """What stands in the run directory of one provider and model: it holds for the same server."""

    provider: str
    url: str  # without what may be a secret
    model: str | None  # that the provider is asked for; where rows name theirs, one of those
    form: RequestForm
    reason: str


class LearnedForms:
    """The forms of a run's requests, as far as they are known from refusals."""

    def __init__(self, config: Config, directory: RunDirectory, log: Callable[[str], None]) -> None:
        self._config = config
        self._path = directory.forms
        self._log = log
        self._learned = self._kept()
        for known in self._learned.values():
            log(f"{self._asked(known)} {known.form.words}, as an earlier session has found it")

    def _kept(self) -> dict[tuple[int, str | None], _Learned]:
        """Return what earlier sessions have learned, by provider and model.

        Not of another server or model, nor what the configuration settles by now.
        """
        found: list[_Learned] = []
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            found = msgspec.json.decode(self._path.read_bytes(), type=list[_Learned])
        config = self._config
        return {
            (number, each.model): each
            for number, provider in enumerate(config.provider)
            for each in found
            if (each.provider, each.url) == (provider.name, hidden.url(provider.base_url))
            and (config.names_models or each.model == config.model_of(provider))
            and provider.form.joined(each.form).changed_from(provider.form) <= config.open_parts(provider)
        }

    def take(self, member: Member, message: Formed, others: Iterable[Member]) -> None:
        """Take in what a worker has found out, and tell it to those that do not know."""
        number = message.provider
        provider = self._config.provider[number]
        model = message.model if self._config.names_models else self._config.model_of(provider)
        known = self._learned.get((number, model))
        before = provider.form if known is None else provider.form.joined(known.form)
        form = before.joined(message.form)
        for other in others:
            if other.state == "working" and (other is not member or form != message.form):
                messages.send(other.child.pipe, UseForm(number, form, message.model))
        if form == before:
            return
        learned = self._learned[number, model] = _Learned(
            provider.name, hidden.url(provider.base_url), model, form, message.reason
        )
        self._log(self._told(learned))
        durable.replace_durably(self._path, msgspec.json.encode([*self._learned.values()]))

    @property
    def known(self) -> list[UseForm]:
        """What a worker that is set up now is to know."""
        by_model = self._config.names_models
        return [
            UseForm(number, known.form, model if by_model else None) for (number, model), known in self._learned.items()
        ]

    @property
    def notices(self) -> tuple[str, ...]:
        """What has been found out, a line for each provider and model, as far as there are not many."""
        told = [self._told(each) for each in self._learned.values()]
        more = len(told) - _MOST_NOTICES
        return (*told[:_MOST_NOTICES], *([f"and {more} more models that are asked in a way of their own"] * (more > 0)))

    def _told(self, learned: _Learned) -> str:
        return f"{self._asked(learned)} {learned.form.words} from now on, for it has said: {learned.reason}"

    def _asked(self, learned: _Learned) -> str:
        model = f", model {learned.model}" if self._config.names_models and learned.model is not None else ""
        return f"provider {learned.provider}{model}: is asked"
