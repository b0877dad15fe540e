"""Conversations as ShareGPT has them, `[{"from": "human", "value": "..."}, {"from": "gpt", ...}]`, as messages.

Most data for training is written so, also with "role" or "content" in the place of one of the two. What "gpt" says at
the end is the answer that the data has: it is left out, for it is the model that is asked now. A call of a function and
what it gave become the call and the result that the API knows, where the call's text is one.
"""

from typing import Any

import msgspec

from rowmill.core.errors import InvalidRow

_ROLES = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "system": "system",
    "developer": "developer",
    "function_call": "call",
    "tool_call": "call",
    "observation": "result",
    "tool": "result",
    "function": "result",
    "function_response": "result",
    "tool_response": "result",
}
_NO_API_HAS = frozenset({"human", "gpt", "chatgpt", "observation"})  # roles by which such a message is known
_LISTS = ("conversations", "conversation", "messages")  # members of an object that holds the messages


def held_list(value: Any) -> Any:
    """Return the list of messages of an object that holds one, `{"conversations": [...]}`; else the value itself."""
    if isinstance(value, dict):
        return next((value[name] for name in _LISTS if isinstance(value.get(name), list)), value)
    return value


def is_sharegpt(messages: list[Any]) -> bool:
    """Tell whether any of these messages is written in ShareGPT's way."""
    return any(
        message.get("from") is not None
        or (message.get("value") is not None and message.get("content") is None)
        or (isinstance(role := message.get("role"), str) and role in _NO_API_HAS)
        for message in messages
        if isinstance(message, dict)
    )


def as_messages(turns: list[Any], api: str, where: str) -> list[dict[str, Any]]:
    """Return the turns as messages of the API, up to the last one that asks. Raises `InvalidRow`; where: names them."""
    read = [_turn(turn, f"{where}: message {number}") for number, turn in enumerate(turns)]
    while read and read[-1][0] in ("assistant", "call"):
        read.pop()
    if not any(role in ("user", "result") for role, _ in read):
        raise InvalidRow(f"{where}: nothing is asked: no turn is of a person")
    messages: list[dict[str, Any]] = []
    open_call = None  # the call that the next result belongs to
    for number, (role, text) in enumerate(read):
        if role == "call" and (call := _call(text)) is not None:
            open_call = f"call_{number}"
            messages.append(_called(api, open_call, *call))
        elif role == "result" and open_call is not None:
            messages.append(_result(api, open_call, text))
            open_call = None
        else:
            # A call that is no JSON is a text like others, and so is what it gave.
            messages.append({"role": {"call": "assistant", "result": "user"}.get(role, role), "content": text})
    return messages


def _turn(turn: Any, where: str) -> tuple[str, Any]:
    if not isinstance(turn, dict):
        raise InvalidRow(f"{where} is no object")
    name = turn.get("from") if turn.get("from") is not None else turn.get("role")
    if not isinstance(name, str):
        raise InvalidRow(f"{where} has no role")
    role = _ROLES.get(name.strip().lower())
    if role is None:
        raise InvalidRow(f"{where} is from {name[:50]!r}; known are {', '.join(_ROLES)}")
    content = turn.get("value") if turn.get("value") is not None else turn.get("content")
    if role in ("call", "result") and not isinstance(content, str):
        content = "" if content is None else msgspec.json.encode(content).decode()
    if not isinstance(content, str | list):
        raise InvalidRow(f"{where} has a value that is neither text nor a list of parts")
    return role, content


def _call(text: str) -> tuple[str, str] | None:
    """Return the name and the arguments, as JSON, of a call; None where the text is none."""
    try:
        call = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", call.get("parameters", {}))
    return call["name"], arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()


def _called(api: str, call_id: str, name: str, arguments: str) -> dict[str, Any]:
    if api == "responses":
        return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _result(api: str, call_id: str, text: str) -> dict[str, Any]:
    if api == "responses":
        return {"type": "function_call_output", "call_id": call_id, "output": text}
    return {"role": "tool", "tool_call_id": call_id, "content": text}
