"""The shape of the package: who imports whom, and the closed lists of who may do what.

Both are read from the source, imports inside functions included. A new module is added to `MAY_IMPORT`; a module that
newly needs to print, sleep or sync is added to its line of `CLOSED`, with a reason that its reviewer accepts.
"""

import ast
import builtins
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import engine

PACKAGE = Path(engine.__file__).parent

BASE = {"errors", "records", "config", "reports"}
PARTS = {"sources", "tasks", "flow", "transport", "store", "outputs", "cache"}
# The worker's side and the supervisor's side never import each other; what both need is in `messages`.
SUPERVISION = {
    "assembly", "bill", "books", "costs", "delivery", "ending", "ledger", "machine", "money", "pool", "preparation",
    "processes", "providers", "shard_book", "sharing", "startup", "supervisor", "threads",
}  # fmt: skip

# component (a module or a folder directly under engine/) -> the other components that it may import
MAY_IMPORT: dict[str, set[str]] = {
    "errors": {"records"},  # for its types only
    "records": set(),
    "reports": {"records"},
    "config": {"errors", "records"},
    # None of these imports another: each can be read, tested and replaced alone.
    **dict.fromkeys(PARTS, BASE),
    "messages": BASE,
    "money": {"errors", "records", "config", "processes"},
    "estimates": set(),
    "processes": set(),
    "observer": {"reports"},
    "memory": set(),
    "machine": {"errors"},
    "parking": set(),
    "upstream": BASE | PARTS,
    "job": BASE | PARTS | {"upstream"},
    "backlog": BASE | PARTS | {"job", "parking"},
    "packs": {"job"},
    "dedup": BASE | PARTS | {"job"},
    "recorder": BASE | PARTS | {"dedup", "job", "packs"},
    "intake": BASE | PARTS | {"backlog", "dedup", "job", "packs", "parking", "recorder"},
    "till": BASE | PARTS | {"job", "upstream"},
    "judge": BASE | PARTS | {"backlog", "job", "packs", "recorder", "till", "upstream"},
    "pipeline": BASE | PARTS | {"backlog", "intake", "job", "judge", "parking", "recorder", "till", "upstream"},
    "committer": BASE | PARTS | {"job", "recorder"},
    "worker": BASE
    | PARTS
    | {"committer", "dedup", "job", "memory", "messages", "pipeline", "recorder", "till", "upstream"},
    "batch": BASE | PARTS | {"job", "memory", "messages", "packs", "recorder"},
    **{
        name: BASE | PARTS | {"memory", "messages", "observer"} | SUPERVISION
        for name in SUPERVISION - {"machine", "money", "processes"}
    },
    "ui": {"errors", "estimates", "records", "reports"},
    "simulator": {"records", "processes"},
    "session": BASE | PARTS | SUPERVISION | {"observer", "ui", "simulator"},
    "trial": BASE | {"observer", "session"},
    "plan": BASE | PARTS | {"estimates", "money", "packs", "preparation"},
    "cancel": BASE | PARTS | {"delivery", "session", "startup"},
    "recipes": {"errors"},
    "frames": {"errors", "records"},
    "map_place": {"errors", "frames", "store"},
    "api": BASE | {"frames", "map_place", "session", "tasks", "trial", "ui"},
    "cli": BASE | {"cancel", "estimates", "plan", "recipes", "session", "trial", "ui", "simulator"},
    "__main__": {"cli"},
}


@dataclass(frozen=True)
class Ability:
    """Something that only some modules may do. A name ending in "." stands for everything below it."""

    names: tuple[str, ...]
    modules: set[str]  # dotted, without "engine."; a folder stands for all its modules


CLOSED: dict[str, Ability] = {
    "make data durable": Ability(("os.fsync", "os.fdatasync", "os.sync", "fcntl.fcntl"), {"store.durable"}),
    "rename or replace files": Ability(
        ("os.rename", "os.replace", "os.link", "shutil.move", "aiofiles.os.", ".rename()", ".replace(one argument)"),
        {"store.durable"},
    ),
    "lock files": Ability(
        ("fcntl.flock", "fcntl.lockf", "os.lockf"),
        {
            "store.durable",
            "cache.claims",  # whose turn it is, tried and never waited for
            "simulator.batches.shelf",  # its state, as any server's
        },
    ),
    "delete": Ability(
        ("os.unlink", "os.remove", "os.rmdir", "shutil.rmtree", ".unlink()", ".rmdir()"),
        {
            "store",
            "pool",  # boards of requests in flight, once they have been read
            "session",  # sealed shards, once the output has their lines
            "cache.claims",  # the run's own scratch
            "batch.steps",  # files of a batch, once it is collected
            "simulator.batches.shelf",  # its own files
            "map_place",  # the temporary directory of one call
        },
    ),
    "print": Ability(("print", "sys.stdout", "sys.stdin"), {"cli"}),
    "write to the error stream": Ability(
        ("sys.stderr",),
        {"cli", "api", "processes"},  # api: is a terminal there? processes: flushed before a child ends at once
    ),
    "exit": Ability(("sys.exit", "exit", "quit", "SystemExit"), {"cli"}),
    "end the process at once": Ability(
        ("os._exit", "os.abort", "os.kill", "os.killpg", "signal.raise_signal"),
        {"processes"},  # a worker's end: threads of the HTTP client may still run
    ),
    "sleep": Ability(
        ("time.sleep", "asyncio.sleep"),
        {
            "worker",  # the heartbeat
            "dedup",  # between two turns
            "simulator.app",  # latency
            "simulator.batches",  # the time that batches take
            "batch",  # between two looks at a batch; a turn for others
            "store.durable",  # a lock has no timeout of its own; the sleep is injected
            "store.run_directory",
        },
    ),
    "open sockets": Ability(
        (
            "socket.socket", "socket.create_server", "socket.create_connection", "socket.socketpair",
            "asyncio.start_server", "asyncio.open_connection", "aiohttp.", "http.", "urllib.request.",
        ),
        {"simulator"},
    ),
    "read the environment": Ability(
        ("os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"),
        {"cli", "api", "transport.endpoint"},  # endpoint: drops account settings before the openai package sees them
    ),
    "start processes": Ability(
        (
            "multiprocessing.get_context", "multiprocessing.Process", "multiprocessing.Pool", "multiprocessing.Queue",
            "multiprocessing.Manager", "concurrent.futures.ProcessPoolExecutor", "subprocess.", "os.fork",
            "os.forkpty", "os.posix_spawn", "os.execv", "os.execve", "os.system", "os.popen",
            "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
        ),
        {"processes"},
    ),
    "start threads": Ability(("threading.Thread", "concurrent.futures.ThreadPoolExecutor"), {"threads", "ui.screen"}),
    # Each foreign library stands behind the modules that translate its errors; importing one costs start-up time.
    "know the openai package": Ability(
        ("openai.", "httpx2."),
        {"transport.endpoint", "transport.sdk", "transport.batches", "transport.batch_trouble"},
    ),
    "know pyreqwest": Ability(("pyreqwest.",), {"transport.direct"}),
    "know rich": Ability(("rich.",), {"ui.live"}),
    "know tenacity": Ability(("tenacity.",), {"flow.retry", "transport.patience", "batch.watch"}),
    "know aiofiles": Ability(("aiofiles.",), {"sources", "store", "batch.parts", "transport.batches"}),
    "know genai_prices": Ability(("genai_prices.",), {"money.published"}),
    "know pyarrow": Ability(("pyarrow.",), {"sources", "outputs"}),
    "know fsspec": Ability(("fsspec.", "s3fs."), {"sources.remote"}),
    "know sqlite3": Ability(("sqlite3.",), {"cache.replies"}),
    "know jsonschema_rs": Ability(("jsonschema_rs.",), {"tasks.schema", "simulator.replies.schema"}),
    "know Jinja2": Ability(("jinja2.",), {"tasks.jinja"}),
}  # fmt: skip

# Decisions only: the time and the randomness come in as arguments. (`random.Random` is the type of one.)
PURE = ("flow",)
IMPURE_NAMES = (
    "time.", "datetime.", "asyncio.", "threading.", "random.random", "random.uniform", "random.choice",
    "random.randint", "random.seed", "random.SystemRandom", "secrets.", "uuid.", "open", "pathlib.",
)  # fmt: skip


@dataclass
class Source:
    """What one module imports and names, with dotted names resolved through its imports."""

    imports: set[str] = field(default_factory=set)  # "engine.flow.rate", "rich.live.Live"
    names: set[str] = field(default_factory=set)  # "os.fsync", "print", ".unlink()"

    def uses(self, names: Iterable[str]) -> set[str]:
        """Return which of these names the module uses."""
        return {
            used
            for used in self.names | self.imports
            for name in names
            if used == name.rstrip(".") or (name.endswith(".") and f"{used}.".startswith(name))
        }


def read(text: str) -> Source:
    """Read one module's source."""
    tree = ast.parse(text)
    source = Source()
    known: dict[str, str] = {}  # local name -> dotted
    for node in ast.walk(tree):
        for local, dotted in _imported(node):
            known[local] = dotted
            source.imports.add(dotted)
        if isinstance(node, ast.Import):
            source.imports.update(alias.name for alias in node.names)
    for node in ast.walk(tree):
        if (name := _dotted(node, known)) is not None:
            source.names.add(name)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not _dotted(node.func, known):
            method = node.func.attr
            source.names.add(f".{method}()")
            # str.replace takes two, Path.replace one; structs' and dates' replace name what they replace.
            if method == "replace" and len(node.args) == 1 and not node.keywords:
                source.names.add(".replace(one argument)")
    return source


def _imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            # "import a.b" binds a; "import a.b as c" binds c to a.b
            yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module is not None
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _dotted(node: ast.AST, known: dict[str, str]) -> str | None:
    """Return the full name of a Name or of a chain of attributes that starts at an imported name or a builtin."""
    if isinstance(node, ast.Name):
        return known.get(node.id) or (node.id if hasattr(builtins, node.id) else None)
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if parts and isinstance(node, ast.Name) and node.id in known:
        return ".".join([known[node.id], *reversed(parts)])
    return None


def files() -> dict[str, Path]:
    """Return the file of every module of the package by its name below `engine`; the package's own file is ""."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@functools.cache
def modules() -> dict[str, Source]:
    """Return every module of the package, read. Not for naming tests: each process that runs some would read them."""
    return {name: read(path.read_text(encoding="utf-8")) for name, path in files().items()}


def imported_at_once(path: Path) -> list[str]:
    """Return what a module imports by itself when it is imported, outside of functions and typing's own branch."""
    found = []
    nodes: list[ast.stmt] = list(ast.parse(path.read_text(encoding="utf-8")).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If):
            typing_only = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            nodes += node.orelse if typing_only else [*node.body, *node.orelse]
        found += [dotted for _, dotted in _imported(node)]
    return found


def components(source: Source) -> set[str]:
    """Return which parts of the package a module imports."""
    inside = {name.split(".")[1] for name in source.imports if name.startswith("engine.")}
    return {name for name in inside if name != "__version__"}


def within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


# The rules


@pytest.mark.parametrize("module", [name for name in files() if name])
def test_imports_go_one_way(module: str) -> None:
    component = module.partition(".")[0]
    assert component in MAY_IMPORT, f"engine/{component} has no line in MAY_IMPORT"
    beyond = components(modules()[module]) - MAY_IMPORT[component] - {component}
    assert not beyond, f"engine.{module} may not import {beyond}"


def test_the_import_table_names_only_what_exists_and_has_no_circle() -> None:
    existing = {name.partition(".")[0] for name in modules() if name}
    assert set(MAY_IMPORT) == existing
    real = {name: set[str]() for name in existing}
    for module, source in modules().items():
        if module:
            component = module.partition(".")[0]
            real[component] |= components(source) - {component}
    while leaves := {name for name, needs in real.items() if not needs & set(real)}:
        for name in leaves:
            del real[name]
    assert not real, f"these components import each other in a circle: {sorted(real)}"


def test_the_package_itself_imports_nothing() -> None:
    """Where it is run: what a type checker reads is passed over, and so is what a name needs that is asked for."""
    assert not [name for name in imported_at_once(PACKAGE / "__init__.py") if name.startswith("engine")]


def test_worker_and_supervisor_do_not_know_each_other() -> None:
    for module in ("worker", "pipeline", "intake", "judge", "backlog", "dedup", "till", "upstream"):
        assert not components(modules()[module]) & SUPERVISION
    for module in SUPERVISION:
        assert not components(modules()[module]) & {"worker", "pipeline"}


@pytest.mark.parametrize("what", CLOSED)
def test_only_the_listed_modules_may(what: str) -> None:
    ability = CLOSED[what]
    for module, source in modules().items():
        if not within(module, ability.modules):
            used = source.uses(ability.names)
            assert not used, f"engine.{module} may not {what}: {sorted(used)}"


@pytest.mark.parametrize("what", CLOSED)
def test_no_module_is_listed_without_need(what: str) -> None:
    ability = CLOSED[what]
    for listed in ability.modules:
        users = [name for name, source in modules().items() if within(name, {listed}) and source.uses(ability.names)]
        assert users, f"engine.{listed} does not {what} (any more): strike it from the list"


@pytest.mark.parametrize("module", [name for name in files() if within(name, set(PURE))])
def test_decisions_read_no_clock_and_throw_no_dice(module: str) -> None:
    assert not modules()[module].uses(IMPURE_NAMES)


# The reader itself: a rule that sees nothing would hold for ever


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import os\nos.fsync(3)", "os.fsync"),
        ("import os as system\nsystem.fsync(3)", "os.fsync"),
        ("from os import fsync as f\nf(3)", "os.fsync"),
        ("def f():\n    import os\n    os.rename(a, b)", "os.rename"),
        ("from pathlib import Path\nPath('a').rename('b')", ".rename()"),
        ("path.replace(target)", ".replace(one argument)"),
        ("async def f():\n    import asyncio\n    await asyncio.sleep(1)", "asyncio.sleep"),
        ("import time\ndef f(sleep=time.sleep): ...", "time.sleep"),
        ("print('x')", "print"),
        ("raise SystemExit", "SystemExit"),
        ("import sys\nsys.stdout.write('x')", "sys.stdout."),
        ("import multiprocessing.connection\nmultiprocessing.Process()", "multiprocessing.Process"),
        ("from subprocess import run", "subprocess."),
        ("def f():\n    from rich.live import Live", "rich."),
        ("import openai", "openai."),
        ("import os\nkey = os.environ['X']", "os.environ"),
    ],
)
def test_the_reader_sees_it(text: str, name: str) -> None:
    assert read(text).uses((name,))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("'a'.replace('b', 'c')", ".replace(one argument)"),
        ("date.replace(tzinfo=x)", ".replace(one argument)"),
        ("import msgspec\nmsgspec.structs.replace(x)", ".replace(one argument)"),
        ("console.print('x')", "print"),
        ("import richer", "rich."),
        ("self.sleep(1)", "time.sleep"),
        ("def f(**http):\n    return http", "http."),
    ],
)
def test_the_reader_does_not_see_what_is_not_there(text: str, name: str) -> None:
    assert not read(text).uses((name,))


def test_the_reader_finds_imports_of_the_package_in_every_form() -> None:
    text = """
from engine import config as configuration, __version__
from engine.flow.rate import Lease
import engine.store.merge
def f():
    from engine.ui import report
"""
    assert components(read(text)) == {"config", "flow", "store", "ui"}
