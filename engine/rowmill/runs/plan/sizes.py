"""How many tokens a request takes, told from its body: the prompt's are counted from its text, the reply's are guessed.

Theory. A tokenizer of today makes about one token of four characters of English text, one of two bytes beyond ASCII
(a Cyrillic letter half a token, a Chinese one a whole, an emoji one and a half). What the body has around its texts
is JSON, which no model sees; each message of a conversation is framed by three tokens instead. Text with many names,
numbers or code takes a quarter more, prose a fifth less: `SPREAD`.

Nobody knows a reply before. Where it has a cap, half of it is a fair guess, as people set caps with room to spare; a
large cap only guards against a model that runs on.
"""

from typing import Any

import msgspec

from rowmill.budget.prices import WITHOUT_REPLIES

SPREAD = (0.8, 1.25)  # between which the true prompt is for nearly all texts and tokenizers

GUESSED_REPLY = 256  # tokens, where there is no cap
MOST_GUESSED = 512  # where there is one: half of it, and no more than this
GUESSED_SPREAD = (0.125, 4.0)  # of the guess, where there is no cap
LEAST_OF_CAP = 0.1

_CHARACTERS = 4.0  # of ASCII to a token
_BYTES_BEYOND = 2.0  # of UTF-8, beyond one a character, to a token
_FRAME = 3.0  # tokens around a message
_IMAGE = 1000.0  # tokens; a large image's, and those of a file or a sound may be any number
_TEXTS = ("text", "content", "refusal", "arguments", "output", "name", "input")  # members of parts and items
_MEDIA = frozenset({"image_url", "input_image", "input_audio", "input_file", "file"})
_CONVERSATIONS = frozenset({"chat.completions", "responses"})


class Size(msgspec.Struct, frozen=True, gc=False):
    """The tokens of one request."""

    prompt: float
    least_reply: float
    reply: float
    most_reply: float
    model: str | None  # that the body names
    cap: int | None  # of the reply


class _Schema(msgspec.Struct, gc=False):
    schema: msgspec.Raw = msgspec.Raw()


class _CountedFormat(msgspec.Struct, gc=False):
    json_schema: _Schema | None = None


class _CountedText(msgspec.Struct, gc=False):
    format: _Schema | None = None


class _CountedMessage(msgspec.Struct, gc=False):
    content: Any = None
    tool_calls: Any = None


class _CountedBody(msgspec.Struct, gc=False):
    model: Any = None
    messages: list[_CountedMessage] = []
    input: Any = None
    prompt: Any = None
    instructions: Any = None
    tools: msgspec.Raw = msgspec.Raw()
    response_format: _CountedFormat | None = None
    text: _CountedText | None = None
    max_completion_tokens: Any = None
    max_tokens: Any = None
    max_output_tokens: Any = None
    n: Any = None


def size_of(body: bytes, api: str, rows: int) -> Size:
    """Return the size of a request for so many rows."""
    try:
        read = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # a user's own body of a shape of its own
        read = _CountedBody(input=body.decode(errors="replace"))
    prompt = len(read.messages) * _FRAME
    for message in read.messages:
        content = message.content
        prompt += text_tokens(content) if type(content) is str else _tokens_in(content)
        if message.tool_calls is not None:
            prompt += _tokens_in(message.tool_calls)
    if read.input is not None:
        frames = len(read.input) if isinstance(read.input, list) else 1
        prompt += _tokens_in(read.input) + (frames * _FRAME if api in _CONVERSATIONS else 0.0)
    for text in (read.prompt, read.instructions):
        if text is not None:
            prompt += _tokens_in(text)
    schema = read.response_format.json_schema if read.response_format else read.text.format if read.text else None
    prompt += (len(read.tools) + (len(schema.schema) if schema else 0)) / _CHARACTERS
    model = read.model if isinstance(read.model, str) else None
    if api in WITHOUT_REPLIES:
        return Size(prompt, 0.0, 0.0, 0.0, model, None)
    cap = next(
        (cap for cap in (read.max_completion_tokens, read.max_tokens, read.max_output_tokens) if _count(cap)), None
    )
    replies = read.n if _count(read.n) else 1
    if isinstance(read.prompt, list):
        replies *= len(read.prompt)
    if cap is None:
        guess = GUESSED_REPLY * rows * replies
        return Size(prompt, guess * GUESSED_SPREAD[0], guess, guess * GUESSED_SPREAD[1], model, None)
    most = cap * replies
    return Size(prompt, most * LEAST_OF_CAP, min(most / 2, MOST_GUESSED * rows * replies), most, model, cap)


def text_tokens(text: str) -> float:
    """Return about how many tokens a text is."""
    if text.isascii():
        return len(text) / _CHARACTERS
    beyond = len(text.encode(errors="replace")) - len(text)
    return len(text.encode("ascii", "ignore")) / _CHARACTERS + beyond / _BYTES_BEYOND


def _tokens_in(value: Any) -> float:
    """Return the tokens of the texts in a message's content, a list of items, or an input of tokens."""
    if isinstance(value, str):
        return text_tokens(value)
    if isinstance(value, list):
        return sum(map(_tokens_in, value))
    if isinstance(value, dict):
        if value.get("type") in _MEDIA:
            return _IMAGE
        return sum(_tokens_in(value[name]) for name in _TEXTS if name in value) + _tokens_in(value.get("function"))
    return 1.0 if type(value) is int else 0.0


def _count(value: Any) -> bool:
    return type(value) is int and value > 0


_decode = msgspec.json.Decoder(_CountedBody).decode
