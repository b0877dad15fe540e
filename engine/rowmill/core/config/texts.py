"""What no value of a configuration can be, whatever its key: text that is no UTF-8, numbers and tables without end."""

from typing import Any

from rowmill.core.errors import ConfigError

_LEVELS = 100  # of tables and lists in each other; what reads them is recursive, and has room for some hundreds
TOO_DEEP = f"tables and lists lie in each other more than {_LEVELS} deep; write it flatter"


def refuse_unusable(tree: Any, source: str) -> None:
    """Raise `ConfigError` with the key. Goes through a tree of any depth."""
    open_nodes: list[tuple[str, Any, int]] = [("", tree, 0)]
    while open_nodes:
        key, node, level = open_nodes.pop()
        if isinstance(node, str):
            _refuse_undecodable(node, key, source)
        if isinstance(node, int) and not -(1 << 63) <= node < 1 << 64:
            raise ConfigError(f"{source}: {key}: a whole number must have at most 64 bits")
        if level > _LEVELS:
            raise ConfigError(f"{source}: {'.'.join(key.split('.')[:2])}: {TOO_DEEP}")
        if isinstance(node, dict):
            for name, value in node.items():
                _refuse_undecodable(str(name), key or "a section", source)
                open_nodes.append((f"{key}.{name}" if key else str(name), value, level + 1))
        elif isinstance(node, list):
            open_nodes += [(key, value, level + 1) for value in node]


def _refuse_undecodable(text: str, key: str, source: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = text.encode("utf-8", "surrogateescape" if _from_bytes(text) else "replace")
        shown_text = shown.decode("utf-8", "backslashreplace")
        raise ConfigError(
            f"{source}: {key}: {shown_text!r} is no UTF-8 text; rename the file, or use a link to it"
        ) from None


def _from_bytes(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
