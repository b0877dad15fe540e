"""What a message holds beside its one text, in the shapes that servers have for it: parts, reasoning, refusals.

Nothing here is asked for the replies that nearly all are: one text, and nothing beside it.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from rowmill.core.finish_reasons import FILTERED, common
from rowmill.tasks.rows import UNREADABLE, encode

_THINKING = ("thinking", "reasoning", "thought", "redacted_thinking", "reasoning_text", "reasoning.text")
_REASONING_MEMBERS = ("reasoning_content", "reasoning", "thinking", "reasoning_text", "reasoning_details")
_TEXTS = ("text", "thinking", "reasoning", "reasoning_text", "summary", "content", "value")
# A block that a template has begun for the model has no opening tag in the reply.
_BLOCK = re.compile(
    r"\A\s*(?:<(think|thinking|thought|reasoning)>)?((?:(?!<think|<thought|<reasoning).)*?)"
    r"</(?:think|thinking|thought|reasoning)>\s*",
    re.DOTALL | re.IGNORECASE,
)
# Items of a response that the asker is to act on. Calls of a server's own tools, as "web_search_call", are none.
CALLS = frozenset({
    "function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call",
    "mcp_approval_request", "tool_call",
})  # fmt: skip


def reason_word(reason: bytes) -> str:
    """Return a finish reason, given as JSON, in the words of chat completions; see `core.finish_reasons`."""
    return common(reason.strip(b'" \t\r\n').decode(errors="replace"))


def filtered(reason: bytes) -> bool:
    """Whether a finish reason, as JSON, says that a filter has held the reply back, or a part of it."""
    return reason_word(reason) == FILTERED


class Content:
    """A content that came as a list of parts, or as one part.

    text: of all its text parts. reasoning: of those in which the model thinks. refusal: of those in which it declines.
    other: whether there are parts of other kinds, as images, that no text stands for.
    """

    def __init__(self, content: Any) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.refusal = ""
        self.other = False
        if isinstance(content, dict) and "type" not in content and len(content) > 1:
            self.other = True  # no part, but what the text would have been, read by the server already
            return
        for part in content if isinstance(content, list) else [content]:
            self._add(part)

    @property
    def text(self) -> str:
        """All the text."""
        return "".join(self.texts)

    def _add(self, part: Any) -> None:
        if isinstance(part, str):
            self.texts.append(part)
        elif not isinstance(part, dict):
            self.other = self.other or part is not None
        elif part.get("type") in _THINKING or part.get("thought") is True:
            self.thoughts.append(texts_in(part))
        elif isinstance(refusal := part.get("refusal"), str):
            self.refusal = self.refusal or refusal
        elif isinstance(text := part.get("text"), str):
            self.texts.append(text)
        elif isinstance(text, dict) and isinstance(text.get("value"), str):
            self.texts.append(text["value"])
        elif part.get("type") in ("text", "output_text") and isinstance(text := part.get("content"), str):
            self.texts.append(text)
        else:
            self.other = True


def texts_in(value: Any) -> str:
    """Return all the text in a piece of reasoning, whatever its shape."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(texts_in(each) for each in value)
    if isinstance(value, dict):
        return "".join(texts_in(value[key]) for key in _TEXTS if key in value)
    return ""


def reasoning_of(message: dict[str, Any]) -> str:
    """Return what the model thought before it said this, "" where it is not told: members, parts, a `<think>` block."""
    for key in _REASONING_MEMBERS:
        if thought := texts_in(message.get(key)):
            return thought
    content = message.get("content")
    if isinstance(content, str):
        return without_thoughts(content)[1]
    return "" if content is None else "".join(Content(content).thoughts)


def without_thoughts(text: str) -> tuple[str, str]:
    """Return a text without the blocks of `<think>` at its beginning, and what stands in them."""
    thoughts = []
    while "</" in text and (block := _BLOCK.match(text)) is not None:
        thoughts.append(block[2].strip())
        text = text[block.end() :]
    return text, "\n".join(thoughts)


def decoded_object(raw: bytes) -> dict[str, Any]:
    """Return a JSON object that was passed on unread; an empty one for anything else."""
    try:
        value = msgspec.json.decode(raw)
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}


def beside(text: bytes, members: dict[str, bytes]) -> bytes:
    """Return the output of a message with more than its text: `{"content": text, "tool_calls": [...], ...}`.

    text: JSON, null where there is none. members: JSON, by name. Calls of tools alone are a list, as they came.
    """
    if text in (b"null", b'""') and list(members) == ["tool_calls"]:
        return members["tool_calls"]
    more = b"".join(b",%b:%b" % (encode(name), value) for name, value in members.items())
    return b"%b%b%b}" % (_BESIDE, text, more)


def listed(outputs: Sequence[bytes]) -> bytes:
    """Return the output of several choices: a list with that of each, null for one without an answer."""
    return b"[%b]" % b",".join(outputs)


def choices_in(output: bytes) -> list[bytes] | None:
    """Return the outputs in one that `listed` has made; None for any other, as a list of calls is."""
    if output[:1] != b"[":
        return None
    try:
        choices = [bytes(each) for each in _decode_list(output)]
    except UNREADABLE:
        return None
    is_other = any(each[:1] == b"{" and not each.startswith(_BESIDE) for each in choices)
    return None if is_other or not choices else choices


def is_beside(output: bytes) -> bool:
    """Whether an output is one that `beside` has made."""
    return output.startswith(_BESIDE)


def text_of(output: bytes) -> bytes:
    """Return the text in an output that `beside` has made, as a JSON string; any other output as it is."""
    if not is_beside(output):
        return output
    try:
        text = bytes(_decode_beside(output).content)
    except UNREADABLE:
        return output
    return text if text[:1] == b'"' else output


class _Beside(msgspec.Struct, gc=False):
    content: msgspec.Raw


_BESIDE = b'{"content":'
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_beside = msgspec.json.Decoder(_Beside).decode
