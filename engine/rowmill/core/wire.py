"""What goes over the wire and comes back, and what is made of it: a request, a reply, an answer or a failure."""

from typing import Literal, Protocol

import msgspec

# The member of each API's requests that is made of the row: the one, beside the model, that none may lack.
CONTENT = {
    "chat.completions": "messages",
    "responses": "input",
    "completions": "prompt",
    "embeddings": "input",
    "moderations": "input",
}
CONVERSATIONS = frozenset({"chat.completions", "responses"})  # the others are asked a text and nothing else
TEXTS = CONVERSATIONS | {"completions"}  # APIs whose replies are texts


class Request(msgspec.Struct, frozen=True, gc=False):
    """One row, ready to be sent."""

    body: bytes  # the JSON body
    id: bytes  # the row's id as JSON text; b"null" where the input has none
    tokens: int  # of the body, estimated from its characters: what limits are debited by until the reply says more


class Endpoint(msgspec.Struct, frozen=True):
    """Where a provider's requests go and what they carry. Holds secrets: never logged, never written to a file."""

    provider: str
    base_url: str
    key: str | None
    openai_account: bool  # the server is OpenAI's own, so account settings of the environment may be sent to it
    timeout_s: float
    url: str = ""  # the full URL of the task's requests, as the openai package builds it
    headers: tuple[tuple[str, str], ...] = ()  # every header that the openai package sends, but those of one body
    extra_headers: tuple[tuple[str, str], ...] = ()  # those that the configuration adds to the package's, or puts over
    ca: str = ""  # certificates in PEM that are trusted beside the machine's own
    identity: str = ""  # this side's certificate and key in PEM, for a server that wants one of its clients
    secrets: tuple[str, ...] = ()  # what must not stand in any message: the key, and header values that are like one

    def __repr__(self) -> str:  # the default would show the secrets
        """Name the endpoint without its secrets."""
        return f"Endpoint({self.provider!r}, {self.base_url.partition('?')[0]!r})"


class HeaderLookup(Protocol):
    """Reads one response header by name, in any case; None where it is absent."""

    def __call__(self, name: str, /) -> str | None:
        """Return the header's value."""


class Reply(msgspec.Struct, gc=False):
    """What a server answered, whatever it was."""

    status: int
    body: bytes
    header: HeaderLookup


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a task read out of a valid reply.

    The bytes are JSON text, as the server wrote it: nothing is decoded that is only to be written again.
    """

    output: bytes  # for chat the text of the message, as a JSON string
    finish_reason: bytes
    model: bytes
    usage: bytes
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  # of the prompt's, those that the provider had cached: they are cheaper
    more: bytes = b""  # parts that `output.include` asks for, as members of a line; empty where it asks for none


# What of the way to a server can fail: its name, the connection, a proxy, TLS, or that it speaks HTTP.
Part = Literal["name", "connection", "proxy", "tls", "http"]


class FaultClass(msgspec.Struct, frozen=True):
    """One line of the fault table (`transport.faults`): what a kind of failure means for the row and the run."""

    name: str
    retryable: bool
    # "provider": what failed here would fail every row; "either": it may, and what becomes of other rows tells
    scope: Literal["row", "either", "provider"]
    spends_attempt: bool
    lowers_concurrency: bool
    unhealthy: bool  # speaks against the provider's health: the breaker counts it
    once: bool = False  # a row is tried again for it once at most


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why one try, or in the end one row, failed."""

    fault: FaultClass
    message: str
    code: str | None = None  # the provider's own error code or type
    param: str | None = None  # what of the request the provider names
    status: int | None = None  # HTTP status, None where no reply arrived
    retry_after: float | None = None  # seconds the server asked to wait, None where it did not say
    reply: bytes | None = None  # of invalid_output the content as it came, of empty_reply the reasoning: a JSON string
    maybe_billed: bool = False  # the server may have done the work although no reply arrived
    part: Part | None = None  # of the way to the server, where that failed
    about_row: bool = False  # it names a member of the request that the row has made
    more: bytes = b""  # of a reply that was no answer, as in `Answer`

    @property
    def reason(self) -> str:
        """The failure in a line, for people."""
        status = f"HTTP {self.status}, " if self.status else ""
        return f"{self.fault.name} ({status}{self.message})"
