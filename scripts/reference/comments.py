"""What the comments in a source file say of the fields of its classes."""

import ast
import io
import tokenize
from pathlib import Path


def of_fields(path: Path) -> dict[str, dict[str, str]]:
    """Return of every class in a file the comment of each field, joined to one text: class -> field -> comment.

    A field's comment is what stands behind it, on any of its lines, and on the lines right before it.
    """
    source = path.read_text(encoding="utf-8")
    behind: dict[int, str] = {}
    alone: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ").rstrip()
            (alone if not token.line[: token.start[1]].strip() else behind)[token.start[0]] = text
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    found.setdefault(node.name, {})[field.target.id] = _comment(field, behind, alone)
    return found


def _comment(field: ast.AnnAssign, behind: dict[int, str], alone: dict[int, str]) -> str:
    line = field.lineno - 1
    before: list[str] = []
    while line in alone:
        before.insert(0, alone[line])
        line -= 1
    assert field.end_lineno is not None
    after = [behind[line] for line in range(field.lineno, field.end_lineno + 1) if line in behind]
    return " ".join(before + after)
