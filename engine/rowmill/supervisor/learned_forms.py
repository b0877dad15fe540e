"""How providers want to be asked, as their refusals have shown: told to every worker, and kept for the next session.

A refusal that shows it is asked for once in a run: whoever is started later, or after a kill, asks as is known by then.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from rowmill.core.config import hidden
from rowmill.core.request_form import RequestForm
from rowmill.ipc import messages
from rowmill.ipc.messages import Formed, UseForm
from rowmill.store import durable
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.pool import Member
from rowmill.supervisor.prepared import PreparedStep

_MOST_NOTICES = 5  # of models that rows name there may be hundreds


class _Learned(msgspec.Struct, frozen=True):
    """What stands in the run directory of one provider and model, as a step asks them: it holds for the same server."""

    provider: str
    url: str  # without what may be a secret
    model: str | None  # that the provider is asked for; where rows name theirs, one of those
    form: RequestForm
    reason: str
    step: str = ""  # its name, where there are several


class LearnedForms:
    """The forms of a run's requests, as far as they are known from refusals. Each step has a schema of its own."""

    def __init__(self, steps: Sequence[PreparedStep], directory: RunDirectory, log: Callable[[str], None]) -> None:
        self._steps = steps
        self._path = directory.forms
        self._log = log
        self._learned = self._kept()
        for (step, _, _), known in self._learned.items():
            log(f"{self._asked(step, known)} {known.form.words}, as an earlier session has found it")

    def _kept(self) -> dict[tuple[int, int, str | None], _Learned]:
        """Return what earlier sessions have learned, by step, provider and model.

        Not of another server or model, nor what the configuration settles by now.
        """
        found: list[_Learned] = []
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            found = msgspec.json.decode(self._path.read_bytes(), type=list[_Learned])
        return {
            (place, number, each.model): each
            for place, step in enumerate(self._steps)
            for number, provider in enumerate(step.config.provider)
            for each in found
            if (each.step, each.provider, each.url) == (step.name, provider.name, hidden.url(provider.base_url))
            and (step.config.names_models or each.model == step.config.model_of(provider))
            and provider.form.joined(each.form).changed_from(provider.form) <= step.config.open_parts(provider)
        }

    def take(self, member: Member, message: Formed, others: Iterable[Member]) -> None:
        """Take in what a worker has found out, and tell it to those at the same step that do not know."""
        number, place = message.provider, member.step
        step = self._steps[place]
        provider = step.config.provider[number]
        model = message.model if step.config.names_models else step.config.model_of(provider)
        known = self._learned.get((place, number, model))
        before = provider.form if known is None else provider.form.joined(known.form)
        form = before.joined(message.form)
        for other in others:
            if other.state == "working" and other.step == place and (other is not member or form != message.form):
                messages.send(other.child.pipe, UseForm(number, form, message.model))
        if form == before:
            return
        learned = self._learned[place, number, model] = _Learned(
            provider.name, hidden.url(provider.base_url), model, form, message.reason, step.name
        )
        self._log(self._told(place, learned))
        durable.replace_durably(self._path, msgspec.json.encode([*self._learned.values()]))

    def known(self, step: int) -> list[UseForm]:
        """Return what a worker that is set up now for a step is to know."""
        by_model = self._steps[step].config.names_models
        return [
            UseForm(number, known.form, model if by_model else None)
            for (place, number, model), known in self._learned.items()
            if place == step
        ]

    @property
    def notices(self) -> tuple[str, ...]:
        """What has been found out, a line for each step, provider and model, as far as there are not many."""
        told = [self._told(step, each) for (step, _, _), each in self._learned.items()]
        more = len(told) - _MOST_NOTICES
        return (*told[:_MOST_NOTICES], *([f"and {more} more models that are asked in a way of their own"] * (more > 0)))

    def _told(self, step: int, learned: _Learned) -> str:
        return f"{self._asked(step, learned)} {learned.form.words} from now on, for it has said: {learned.reason}"

    def _asked(self, step: int, learned: _Learned) -> str:
        by_model = self._steps[step].config.names_models and learned.model is not None
        model = f", model {learned.model}" if by_model else ""
        return f"provider {learned.provider}{model}{f' in step {learned.step}' if learned.step else ''}: is asked"
