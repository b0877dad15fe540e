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


class _Learned(msgspec.Struct, frozen=True):
    """What stands in the run directory of one provider: it holds for the same server and model."""

    provider: str
    url: str  # without what may be a secret
    model: str | None
    form: RequestForm
    reason: str


class LearnedForms:
    """The forms of a run's requests.

    forms: of each provider, in the configuration's order. notices: what is unusual, for the summary.
    """

    def __init__(self, config: Config, directory: RunDirectory, log: Callable[[str], None]) -> None:
        self._config = config
        self._path = directory.forms
        self._log = log
        self._learned = self._kept()
        self.forms = [
            provider.form if known is None else provider.form.joined(known.form)
            for provider, known in zip(config.provider, self._learned, strict=True)
        ]
        for known in filter(None, self._learned):
            log(f"provider {known.provider}: is asked {known.form.words}, as an earlier session has found it")

    def _kept(self) -> list[_Learned | None]:
        """Return what earlier sessions have learned of each provider; nothing where it is another one now."""
        found: list[_Learned] = []
        with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
            found = msgspec.json.decode(self._path.read_bytes(), type=list[_Learned])
        by_name = {each.provider: each for each in found}
        kept: list[_Learned | None] = []
        for provider in self._config.provider:
            known = by_name.get(provider.name)
            asked = hidden.url(provider.base_url), self._config.model_of(provider)
            kept.append(known if known is not None and (known.url, known.model) == asked else None)
        return kept

    def take(self, member: Member, message: Formed, others: Iterable[Member]) -> None:
        """Take in what a worker has found out, and tell it to those that do not know."""
        number = message.provider
        provider = self._config.provider[number]
        before = self.forms[number]
        form = self.forms[number] = before.joined(message.form)
        for other in others:
            if other.state == "working" and (other is not member or form != message.form):
                messages.send(other.child.pipe, UseForm(number, form))
        if form == before:
            return
        model = self._config.model_of(provider)
        self._learned[number] = _Learned(provider.name, hidden.url(provider.base_url), model, form, message.reason)
        self._log(self._told(self._learned[number]))
        durable.replace_durably(self._path, msgspec.json.encode([each for each in self._learned if each is not None]))

    @property
    def notices(self) -> tuple[str, ...]:
        """What has been found out, a line for each provider."""
        return tuple(self._told(each) for each in self._learned if each is not None)

    @staticmethod
    def _told(learned: _Learned | None) -> str:
        assert learned is not None
        return (
            f"provider {learned.provider}: is asked {learned.form.words} from now on, for it has said: {learned.reason}"
        )
