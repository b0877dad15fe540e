"""What a check of a configuration has found, before a run."""

import msgspec


class ProviderCheck(msgspec.Struct, kw_only=True):
    """One provider, and what came of one request to it."""

    name: str
    url: str  # of the request, without anything secret
    key: str  # where it comes from, in words; never the key
    preset: str = ""  # the name of its preset, and what that gave, in words; empty where it has none
    model: str | None  # that is asked for; None: the row names it
    price: tuple[float, float] | None = None  # dollars a million tokens, in and out; None: it is not known
    sent: bool = False
    ok: bool | None = None  # None: it was not asked
    status: int | None = None  # HTTP
    seconds: float | None = None  # until the whole reply
    form: str = ""  # how it had to be asked, in words; empty: as usual
    answer: str = ""  # of the row, as JSON
    answered_as: str = ""  # what the reply calls the model
    tokens: tuple[int, int] | None = None  # in and out, as the reply says
    problem: str = ""  # why there is no answer, and what to change
    body: str = ""  # what came back where it is no answer, as far as a person reads it
    requests_limit: tuple[float, float] | None = None  # that its headers tell: units, and seconds until all are back
    tokens_limit: tuple[float, float] | None = None


class Checked(msgspec.Struct, kw_only=True):
    """A configuration that could be run, and its providers."""

    input: str
    format: str
    columns: list[str]
    row: int | None  # number of the one that was asked; None: no row can become a request
    request: str = ""  # its body, as a person reads it
    run: str = ""  # what there is of the run already
    output: str
    notices: list[str] = []
    providers: list[ProviderCheck]

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against a run."""
        return self.row is not None and all(each.ok is not False for each in self.providers)
