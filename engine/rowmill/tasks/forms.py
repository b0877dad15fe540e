"""Requests in the form in which one server wants them, and its replies as if it had been asked as usual.

What is asked stays the same. Only providers whose form is unusual (see `core.request_form`) come here.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from rowmill.core.config import TaskConfig
from rowmill.core.request_form import USUAL, RequestForm, SchemaForm
from rowmill.tasks.contents import decoded_object
from rowmill.tasks.readers import choices_asked
from rowmill.tasks.rows import encode
from rowmill.tasks.streamed import whole_reply

TOOL = "give_answer"  # the tool whose call is the reply
_WORDS = "Reply with one JSON object and nothing else: no other text, no code fence. It must fit this JSON Schema:\n"
_TOOL_WORDS = "Gives the answer. To be called once, with the whole answer as its arguments."
_USAGE_TOO = frozenset({"chat.completions", "completions"})  # APIs whose streams have it where it is asked for
Members = dict[str, msgspec.Raw]


class RequestFormer:
    """Forms the requests of one provider, and reads its replies."""

    def __init__(self, config: TaskConfig, form: RequestForm) -> None:
        """`config`: whose schema is resolved, and says whether there is one."""
        self._responses = config.api == "responses"
        self._stream = _stream_members(config, form) if form.stream else {}
        self._choices = choices_asked(config)
        self._schema = form.schema
        self._formats: dict[bytes, tuple[Members, str]] = {}  # as a body has one -> what stands for it, and words

    def form(self, body: bytes) -> bytes:
        """Return a body in this form."""
        return encode(self.formed(_decode_members(body)))

    def formed(self, members: Members) -> Members:
        """Return the members of a body in this form; those that were given are changed."""
        if self._schema != "json_schema":
            self._ask_otherwise(members)
        if self._stream:
            for name in ("stream", "stream_options"):
                members.pop(name, None)
            members |= self._stream
        return members

    def read(self, body: bytes) -> bytes:
        """Return the body of a reply as it would have been. Raises `BadReply` for a stream that is not whole."""
        if self._stream:
            body = whole_reply(body, choices=self._choices)
        return _without_call(body) if self._schema == "tool" else body

    # How the schema is asked for

    def _ask_otherwise(self, members: Members) -> None:
        """Ask for what the request's format asks for in another way."""
        name = "text" if self._responses else "response_format"
        if name not in members:
            return
        asked = bytes(members.pop(name))
        tools = "tools" in members  # of the run's own: a call of ours could not be forced beside them
        key = asked + b"tools" * tools
        if key not in self._formats:
            self._formats[key] = self._made(asked, "prompt" if tools and self._schema == "tool" else self._schema)
        more, words = self._formats[key]
        conversation = members.pop("input" if self._responses else "messages")
        members |= more
        if self._responses:
            members["input"] = _with_words(conversation, words)
        else:
            members["messages"] = _with_words(conversation, words)

    def _made(self, asked: bytes, way: SchemaForm) -> tuple[Members, str]:
        """Return the members that stand for a format, and what is to be said with them."""
        said = decoded_object(asked)
        format_ = said.get("format", {}) if self._responses else said
        named = format_ if self._responses else format_.get("json_schema", {})
        schema = named.get("schema")
        rest: Members = {}
        if self._responses and (other := {name: value for name, value in said.items() if name != "format"}):
            rest["text"] = _raw(other)
        if schema is None:  # no schema is asked for
            return {("text" if self._responses else "response_format"): msgspec.Raw(asked)}, ""
        if way == "tool":
            function = {"name": TOOL, "description": _TOOL_WORDS, "parameters": schema}
            tool: dict[str, Any] = {"type": "function", "function": function}
            choice: dict[str, Any] = {"type": "function", "function": {"name": TOOL}}
            if self._responses:
                tool, choice = {"type": "function", **function, "strict": False}, {"type": "function", "name": TOOL}
            return {**rest, "tools": _raw([tool]), "tool_choice": _raw(choice)}, ""
        words = _WORDS + encode(schema).decode()
        if way == "prompt":
            return rest, words
        kind = {"type": "json_object"}
        if self._responses:
            return {"text": _raw({**decoded_object(bytes(rest.get("text", b"{}"))), "format": kind})}, words
        return {"response_format": _raw(kind)}, words


def _stream_members(config: TaskConfig, form: RequestForm) -> Members:
    usage = {"stream_options": _raw({"include_usage": True})} if form.usage and config.api in _USAGE_TOO else {}
    return {"stream": msgspec.Raw(b"true"), **usage}


def _with_words(conversation: msgspec.Raw, words: str) -> msgspec.Raw:
    """Return a conversation with words behind what it says first: of the system, where that speaks, else of the user.

    Some models know no system, and some want user and assistant to take turns: no message is added.
    """
    if not words:
        return conversation
    messages = msgspec.json.decode(conversation)
    if isinstance(messages, str):  # the responses API takes a text in the place of a list with one message
        return _raw(f"{messages}\n\n{words}")
    spoken = [each for each in messages if isinstance(each, dict)]
    message = next((each for each in spoken[:1] if each.get("role") in ("system", "developer")), None)
    message = message or next((each for each in reversed(spoken) if each.get("role") == "user"), None)
    if message is None:
        messages.append({"role": "user", "content": words})
    elif isinstance(content := message.get("content"), list):
        kind = (
            "input_text"
            if any(part.get("type") == "input_text" for part in content if isinstance(part, dict))
            else "text"
        )
        message["content"] = [*content, {"type": kind, "text": words}]
    else:
        message["content"] = f"{content}\n\n{words}" if content else words
    return _raw(messages)


def _without_call(body: bytes) -> bytes:
    """Return a reply with the arguments of the call of `TOOL` as its text; any other as it is."""
    if TOOL.encode() not in body:
        return body
    reply = decoded_object(body)
    for choice in reply.get("choices") or ():
        message = choice.get("message") if isinstance(choice, dict) else None
        if not isinstance(message, dict):
            continue
        calls = message.get("tool_calls")
        found = _arguments(call.get("function") for call in calls or () if isinstance(call, dict))
        if found is not None:
            message |= {"content": found, "tool_calls": None}
            if choice.get("finish_reason") == "tool_calls":
                choice["finish_reason"] = "stop"
    output = reply.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "function_call":
            found = _arguments([item])
            if found is not None:
                item.clear()
                item |= {"type": "message", "content": [{"type": "output_text", "text": found}]}
    return encode(reply) if reply else body


def _arguments(calls: Any) -> str | None:
    for call in calls:
        if isinstance(call, dict) and call.get("name") == TOOL:
            arguments = call.get("arguments")
            return arguments if isinstance(arguments, str) else encode(arguments).decode()
    return None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


class ModelsFormer:
    """Forms requests as the model that each names wants them, and reads replies to whatever form."""

    def __init__(self, config: TaskConfig, form: RequestForm, models: Mapping[str, RequestForm]) -> None:
        """models: their forms; of others it is `form`."""
        self._choices = choices_asked(config)
        self._others = _plain_former(config, form)
        self._models = {model: _plain_former(config, form) for model, form in models.items()}

    def form(self, body: bytes) -> bytes:
        """Return a body in the form of its model."""
        members = _decode_members(body)
        by = self._models.get(_name_in(members), self._others)
        return body if by is None else encode(by.formed(members))

    def read(self, body: bytes) -> bytes:
        """Return the body of a reply as it would have been; see `RequestFormer.read`."""
        return _without_call(whole_reply(body, choices=self._choices))


def _name_in(members: Members) -> str:
    try:
        return _decode_name(members["model"])
    except (KeyError, msgspec.DecodeError):
        return ""


Former = RequestFormer | ModelsFormer


def former(
    config: TaskConfig, form: RequestForm, models: Mapping[str, RequestForm] = MappingProxyType({})
) -> Former | None:
    """Return what forms requests so, those of some models in another form; None where all are as usual."""
    return ModelsFormer(config, form, models) if models else _plain_former(config, form)


def _plain_former(config: TaskConfig, form: RequestForm) -> RequestFormer | None:
    return None if form == USUAL else RequestFormer(config, form)


def rewriting(ask_model: Callable[[bytes], bytes] | None, by: Former | None) -> Callable[[bytes], bytes] | None:
    """Return what makes a body of the task's as it goes out: it asks the provider's own model, and has its form."""
    if by is None or ask_model is None:
        return ask_model if by is None else by.form
    form = by.form
    return lambda body: form(ask_model(body))


_decode_members: Callable[[bytes], Members] = msgspec.json.Decoder(Members).decode
_decode_name: Callable[[msgspec.Raw], str] = msgspec.json.Decoder(str).decode
