"""In which form one provider is asked, and how it goes on where it refuses that: of all its models, or each by itself.

Where rows name their models, one of a gateway's may only stream while another cannot: each has a form of its own.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from rowmill.core.request_form import USUAL, FormPart, RequestForm
from rowmill.core.wire import Failure, Request
from rowmill.transport import Transport
from rowmill.transport.refused_forms import refused_part

if TYPE_CHECKING:
    from rowmill.tasks.forms import Former

Ask = Callable[[bytes], bytes]
FormerOf = Callable[[RequestForm, Mapping[str, RequestForm]], "Former | None"]


class _AskedModel(msgspec.Struct, gc=False):
    model: str = ""


class _Known(msgspec.Struct):
    """What is known of a model. Requests that were begun up to `since` were sent in one of the forms before."""

    form: RequestForm
    before: list[RequestForm] = []
    since: float = 0.0
    answered: int = 0  # replies by then


class AskedForms:
    """Of one provider in one worker.

    rewrite: makes a body as it goes out; None where it goes out as it was built. send: sends that.
    """

    __slots__ = ("_ask_model", "_former_of", "_known", "_open_parts", "_others", "_transport", "rewrite", "send")

    def __init__(
        self,
        transport: Transport,
        *,
        ask_model: Ask | None = None,
        former_of: FormerOf | None = None,
        form: RequestForm = USUAL,
        open_parts: frozenset[FormPart] = frozenset(),
        by_model: bool = False,
    ) -> None:
        """ask_model: makes a built body ask the provider's own model; None where it is the task's.

        former_of: see `tasks.forms.former`. form: that is known to be wanted. open_parts: of it, what may be asked
        otherwise where it is refused. by_model: rows name their models.
        """
        self._transport = transport
        self._ask_model = ask_model
        self._former_of = former_of
        self._open_parts = open_parts
        self._others = _Known(form)
        self._known: dict[str, _Known] | None = {} if by_model else None
        self._open()

    def of(self, model: str | None = None) -> RequestForm:
        """Return the form of requests to a model."""
        return self._of(model).form

    def take(self, form: RequestForm, now: float, answered: int, model: str | None = None) -> bool:
        """Ask as is known of it by now, too; returns whether that is news."""
        known = self._of(model)
        form = known.form.joined(form)
        if form == known.form:
            return False
        known.before.append(known.form)
        known.form, known.since, known.answered = form, now, answered
        if self._known is not None and model is not None:
            self._known[model] = known
        self._open()
        return True

    def model_of(self, request: Request) -> str | None:
        """Return the model whose form a request has; None where all have the same."""
        if self._known is None:
            return None
        return _model_in(request.body if self._ask_model is None else self._ask_model(request.body))

    def after(self, failure: Failure, started: float, answered: int, model: str | None = None) -> RequestForm | None:
        """Return the form in which to send again what was begun then and has failed for its form; None for any other.

        That is the form of now, or, where this has been refused, the next one. What was answered in the form of now is
        refused for what is in the row, unless that was perhaps another model.
        """
        known = self._of(model)
        if started <= known.since:
            return known.form if any(refused_part(failure, form) for form in known.before) else None
        part = refused_part(failure, known.form)
        if part is None or part not in self._open_parts:
            return None
        if part == "schema" and answered > known.answered and self._known is None:
            return None
        return known.form.without(part)

    def after_prose(self, model: str | None = None) -> RequestForm | None:
        """Return the form to ask in where replies are prose although a schema was asked for; None where it was not.

        Such a server takes the schema and does not look at it, as Anthropic's.
        """
        form = self._of(model).form
        asked = form.schema == "json_schema" and "schema" in self._open_parts
        return form.without("schema") if asked else None

    def _of(self, model: str | None) -> _Known:
        if self._known is None or model is None:
            return self._others
        return self._known.get(model) or _Known(self._others.form)

    def _open(self) -> None:
        self.send, self.rewrite = self._transport.send, self._ask_model
        models = {} if self._known is None else {model: known.form for model, known in self._known.items()}
        if self._former_of is None or (self._others.form == USUAL and not models):
            return
        former = self._former_of(self._others.form, models)
        if former is not None:
            from rowmill.tasks.forms import rewriting  # few providers want it
            from rowmill.worker.live.formed import FormedTransport

            self.send = FormedTransport(self._transport, former).send
            self.rewrite = rewriting(self._ask_model, former)


def _model_in(body: bytes) -> str | None:
    try:
        return _decode_named(body).model
    except msgspec.DecodeError:
        return None


_decode_named = msgspec.json.Decoder(_AskedModel).decode
