"""Makes input files, as JSON lines, from what is on this machine. Nothing is downloaded.

    corpus.py docstrings OUT                           the docstrings of Python's standard library
    corpus.py packages OUT                             the package descriptions of `apt-cache dumpavail`
    corpus.py synthetic OUT --rows N [--bytes-per-row B]   made-up text, as much as is asked for

The same Python, the same package lists and the same numbers give the same bytes. Rows are streamed: memory holds
no more than the ids.
"""

import argparse
import ast
import itertools
import json
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

# Not the library itself: installed packages, tests (absent from many installations), generated data.
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})

FILLER = (
    "row shard slot lease outcome seal provider run file line engine model reply token request order crash resume "
    "record group commit merge worker pipe signal budget rate limit retry backoff failure class status header body "
)


class CorpusError(Exception):
    """The corpus cannot be made here. The text is one line that says what to do."""


def unique(name: str, seen: dict[str, int]) -> str:
    """Return the name, from its second use on with `#2`, `#3`, ... appended. Counts uses in `seen`."""
    uses = seen[name] = seen.get(name, 0) + 1
    return name if uses == 1 else f"{name}#{uses}"


def encode(row: dict[str, str]) -> bytes:
    """One row as a JSON line in UTF-8. Lone surrogates, which no strict JSON reader takes, become `?`."""
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def docstrings() -> Iterator[bytes]:
    """Lines `{"id", "name", "kind", "docstring"}`: modules by path, definitions in the order of the source."""
    library = Path(sysconfig.get_path("stdlib"))
    seen: dict[str, int] = {}
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        parts = path.relative_to(library).with_suffix("").parts
        if SKIPPED_FOLDERS.intersection(parts):
            continue
        try:
            with warnings.catch_warnings(action="ignore"):  # odd escapes in old modules are none of our business
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # templates and deliberately broken files
            continue
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for qualname, kind, text in definitions(tree):
            id_ = unique(f"{module}.{qualname}" if qualname else module, seen)
            name = (qualname or module).rpartition(".")[2]
            yield encode({"id": id_, "name": name, "kind": kind, "docstring": text})


def definitions(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """(qualified name, kind, docstring) of the module and each definition in it that has a docstring."""
    if text := ast.get_docstring(tree):
        yield "", "module", text
    yield from nested_definitions(tree, prefix="", in_class=False)


def nested_definitions(node: ast.AST, *, prefix: str, in_class: bool) -> Iterator[tuple[str, str, str]]:
    """Yield the same for everything below a node, named as Python's `__qualname__` names it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):  # nothing is defined in there, and it is most of the tree
            continue
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from nested_definitions(child, prefix=prefix, in_class=in_class)
            continue
        is_class = isinstance(child, ast.ClassDef)
        if text := ast.get_docstring(child):
            yield prefix + child.name, "class" if is_class else "method" if in_class else "function", text
        inner = prefix + child.name + ("." if is_class else ".<locals>.")
        yield from nested_definitions(child, prefix=inner, in_class=is_class)


def packages() -> Iterator[bytes]:
    """Lines `{"id", "package", "section", "description"}`, one for each stanza, in apt's order."""
    try:
        apt = subprocess.Popen(["apt-cache", "dumpavail"], stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise CorpusError("apt-cache is not installed: this corpus needs Debian or Ubuntu") from None
    seen: dict[str, int] = {}
    with apt:
        assert apt.stdout is not None
        for fields in stanzas(apt.stdout):
            if package := fields.get("Package"):
                row = {"id": unique(package, seen), "package": package, "section": fields.get("Section", "")}
                yield encode({**row, "description": fields.get("Description", fields.get("Description-en", ""))})
    if apt.returncode:
        raise CorpusError(f"apt-cache dumpavail failed with exit code {apt.returncode}")
    if not seen:
        raise CorpusError("apt knows no packages: run apt-get update first")


def stanzas(lines: Iterable[bytes]) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of a Debian control stream (see deb822(5)), one at a time.

    A line that starts with a blank goes on with the field before it; " ." stands for an empty line.
    """
    fields: dict[str, str] = {}
    name = ""
    for raw in itertools.chain(lines, [b""]):
        line = raw.decode("utf-8", "replace").rstrip()
        if not line:
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + ("" if line[1:] == "." else line[1:])
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()


def synthetic(rows: int, bytes_per_row: int) -> Iterator[bytes]:
    """Lines `{"id": "row-00000000", "text"}` of exactly `bytes_per_row` bytes each, newline included.

    Every row's text is its own: it starts with the row's number.
    """
    frame = len(synthetic_line(0, ""))
    number = len("00000000: ")
    length = bytes_per_row - frame
    if length < number:
        raise CorpusError(f"--bytes-per-row must be at least {frame + number}")
    pool = FILLER * ((length + 4096) // len(FILLER) + 1)
    for index in range(rows):
        start = index * 1_000_003 % 4096  # a prime step: neighbours do not look alike
        yield synthetic_line(index, f"{index:08}: {pool[start : start + length]}"[:length])


def synthetic_line(index: int, text: str) -> bytes:
    """One line of plain ASCII without anything to escape, so no encoder is needed."""
    return b'{"id": "row-%08d", "text": "%s"}\n' % (index, text.encode())


def write(lines: Iterable[bytes], out: Path) -> int:
    """Write the lines to a file, whole or not at all. Returns how many there were."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    count = 0
    try:
        with part.open("wb", buffering=1 << 20) as file:
            for line in lines:
                file.write(line)
                count += 1
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return count


def main() -> int:
    """Read the arguments, write the file, say in a line what it holds."""
    parser = argparse.ArgumentParser(description="Makes input files, as JSON lines, from what is on this machine.")
    corpora = parser.add_subparsers(dest="corpus", required=True)
    for name, text in (
        ("docstrings", "the docstrings of Python's standard library"),
        ("packages", "the package descriptions that apt knows"),
        ("synthetic", "made-up text"),
    ):
        corpus = corpora.add_parser(name, help=text)
        corpus.add_argument("out", type=Path, metavar="OUT")
    corpus.add_argument("--rows", type=int, required=True, metavar="N")
    corpus.add_argument("--bytes-per-row", type=int, default=512, metavar="B", help="newline included (default 512)")
    arguments = parser.parse_args()
    try:
        match arguments.corpus:
            case "docstrings":
                lines = docstrings()
            case "packages":
                lines = packages()
            case _:
                lines = synthetic(arguments.rows, arguments.bytes_per_row)
        count = write(lines, arguments.out)
    except (CorpusError, OSError) as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 1
    print(f"{arguments.out}: {count:,} rows, {arguments.out.stat().st_size:,} bytes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
