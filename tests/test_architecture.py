"""The shape of the package: who imports whom, and the closed lists of who may do what.

Both are read from the source, imports inside functions included. A new module is added to `MAY_IMPORT`; a module that
newly needs to print, sleep or sync is added to its line of `CLOSED`, with a reason that its reviewer accepts.
"""

import ast
import builtins
import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import rowmill
from scripts import rooms
from scripts.rooms import imported, imports_of

PACKAGE = Path(rowmill.__file__).parent

# The map: every room, from the top floor down, and the rooms that it may import. Nothing runs up, nothing in a circle.
# `python scripts/rooms.py` prints what is so.
MAY_IMPORT: dict[str, set[str]] = {
    "__main__": {"interface"},
    "interface": {"runs", "simulator", "store", "tasks", "core"},  # what people touch
    "runs": {
        "metrics",
        "cluster",
        "supervisor",
        "budget",
        "simulator",
        "files",
        "store",
        "tasks",
        "transport",
        "ipc",
        "core",
    },  # from start to end
    "cluster": {"supervisor", "files", "ipc", "store", "core"},  # workers on the nodes of a cluster
    "supervisor": {"budget", "files", "flow", "ipc", "store", "core"},  # plans, assigns, watches, merges: no rows
    "worker": {"budget", "files", "flow", "ipc", "store", "tasks", "transport", "core"},  # the processes that ask
    "budget": {"ipc", "store", "core"},  # what a run may spend
    "simulator": {"ipc", "core"},  # an endpoint on loopback
    # None of these imports another: each can be read, tested and replaced alone.
    "files": {"core"},  # rows in, rows out
    "flow": {"core"},  # how fast and how often
    "ipc": {"core"},  # between the processes
    "metrics": {"core"},  # what monitoring is told
    "store": {"core"},  # what survives a crash
    "tasks": {"core"},  # row -> request, reply -> answer
    "transport": {"core"},  # the wire and the fault table
    "core": set(),  # values that everybody may import
}

# Inside a room, where it matters: a part of it, and the parts that it may not import.
APART: dict[str, set[str]] = {
    "worker.live": {"worker.batch"},
    "worker.batch": {"worker.live"},
    "worker.job": {"worker.live", "worker.batch"},
    "worker.packs": {"worker.live", "worker.batch"},
    "worker.failures": {"worker.live", "worker.batch"},
    "worker.stored_replies": {"worker.live", "worker.batch"},
    "worker.outcome_writer": {"worker.live", "worker.batch"},
    "worker.supervised": {"worker.live", "worker.batch"},
    "files.input": {"files.output"},
    "files.output": {"files.input"},
}


# Class names that stand more than once, with the modules; a protocol and what it is of may be called the same.
TWICE: dict[str, list[str]] = {}
# Module names that stand in more than two folders, which is allowed where they are one thing.
THRICE = {"process": ["simulator", "worker.batch", "worker.live"]}  # what a process of that kind runs


@dataclass(frozen=True)
class Ability:
    """Something that only some modules may do. A name ending in "." stands for everything below it."""

    names: tuple[str, ...]
    modules: set[str]  # dotted, without "rowmill."; a folder stands for all its modules


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
            "store.cache.claims",  # tried and never waited for
            "simulator.batches.storage",  # its state, as any server's
        },
    ),
    "delete": Ability(
        ("os.unlink", "os.remove", "os.rmdir", "shutil.rmtree", ".unlink()", ".rmdir()"),
        {
            "store",
            "supervisor.pool",  # boards of requests in flight, once what they say is on the disk elsewhere
            "supervisor.aftermath",  # the same of a session that was killed
            "supervisor.shard_pipeline",  # sealed shards whose failed rows are asked again: they are made anew
            "runs.session",  # sealed shards, once the output has their lines
            "runs.clean",  # what a finished run does not need, when somebody says so
            "runs.piped",  # what went through a pipe, once every row has its result
            "store.cache.claims",  # the run's own scratch
            "worker.batch.lifecycle",  # files of a batch, once it is collected
            "simulator.batches.storage",  # its own files
            "interface.python.place",  # the temporary directory of one call
            # A node's scratch, once the driver has what was written there.
            "cluster.agent", "cluster.node_input", "cluster.node_worker",
            "core.private_files",  # the name of a file that is made anew: a link there is not written through
        },
    ),
    "print": Ability(("print", "sys.stdout", "sys.stdin"), {"interface.cli"}),
    "write to the error stream": Ability(
        ("sys.stderr",),
        {
            "interface.cli",
            "interface.python.running",  # is a terminal there?
            "ipc.processes",  # flushed before a child ends at once
        },
    ),
    "exit": Ability(
        ("sys.exit", "exit", "quit", "SystemExit"),
        {
            "interface.cli",
            "tasks.models",  # caught: a module with the user's types may be a script
        },
    ),
    "end the process at once": Ability(
        ("os._exit", "os.abort", "os.kill", "os.killpg", "signal.raise_signal"),
        {
            "ipc.processes",  # a worker's end: threads of libraries may still run
            "runs.notify.command",  # a program of the user's that takes too long, with all that it has started
            "cluster.agent",  # an actor that nobody has called for so long that it is nobody's
        },
    ),
    "sleep": Ability(
        ("time.sleep", "asyncio.sleep"),
        {
            "worker.supervised",  # the heartbeat
            "interface.cli.watching",  # until it looks at the run again
            "cluster.agent",  # its beat
            "cluster.link",  # until the leases of a lost node have expired
            "worker.live.dedup",  # until the claims are looked at again
            "simulator.app",  # latency
            "simulator.batches",  # the time that batches take
            "worker.batch",  # between two looks at a batch; a turn for others
            "store.durable",  # a lock has no timeout of its own; the sleep is injected
            "store.run_directory",
        },
    ),
    "open sockets": Ability(
        (
            "socket.socket", "socket.create_server", "socket.create_connection", "socket.socketpair",
            "asyncio.start_server", "asyncio.open_connection", "aiohttp.", "http.", "urllib.request.",
        ),
        {
            "simulator",
            "ipc.channel",  # a pipe that is one
            "interface.cli.served",  # a report's page, on loopback, for as long as somebody looks at it
            "cluster.engine",  # is there anybody at the cluster's address?
            "metrics.scrapes",  # an endpoint for whoever collects figures
            "runs.notify.webhook",  # a POST at the end of a run: no loop to wait in
            "transport.http1.dialing",  # requests
        },
    ),
    "read the environment": Ability(
        ("os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"),
        {
            "interface.cli",
            "interface.python.calls",
            "interface.python.mapping",
            "transport.openai_client",  # drops account settings before the openai package sees them
            "transport.http1.proxies",  # which proxy is it to be?
            "transport.http1.tls_trust",  # and whom does this machine trust?
        },
    ),
    "start processes": Ability(
        (
            "multiprocessing.get_context", "multiprocessing.Process", "multiprocessing.Pool", "multiprocessing.Queue",
            "multiprocessing.Manager", "concurrent.futures.ProcessPoolExecutor", "subprocess.", "os.fork",
            "os.forkpty", "os.posix_spawn", "os.execv", "os.execve", "os.system", "os.popen",
            "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
        ),
        {
            "ipc.processes",
            "files.input.workbook_look",  # one that may die of what it reads
            "tasks.documents.reader",  # another one
            "runs.notify.command",  # the user's own, which is told how the run goes
        },
    ),
    "start threads": Ability(
        ("threading.Thread", "concurrent.futures.ThreadPoolExecutor"),
        {
            "supervisor.threads", "interface.ui.screen", "cluster.driver",
            "metrics.scrapes", "metrics.otlp",  # who collects figures may take his time
            "runs.notify.notifier",  # who is told may take his time: the run does not wait
            "interface.python.awaited",  # the run, while the program's own loop goes on
            "interface.cli.results_out",  # whoever reads the results may take his time
        },
    ),
    # Each foreign library stands behind the modules that translate its errors; importing one costs start-up time.
    "know the openai package": Ability(
        ("openai.", "httpx2."),
        {
            "transport.openai_client", "transport.sdk", "transport.bounded_replies", "transport.batch_api",
            "transport.batch_trouble",
            "transport.request_head",  # its URLs, of such as need more than to be put together
        },
    ),
    "know httptools": Ability(("httptools.",), {"transport.http1.reply_parser"}),
    "know aiohappyeyeballs": Ability(("aiohappyeyeballs.",), {"transport.http1.dialing"}),
    "know rich": Ability(("rich.",), {"interface.ui.live", "interface.ui.notebook", "interface.ui.cells"}),
    "know tenacity": Ability(("tenacity.",), {"flow.backoff", "transport.batch_retry", "worker.batch.polling"}),
    "know aiofiles": Ability(("aiofiles.",), {"files.input", "worker.batch.parts", "transport.batch_api"}),
    "know genai_prices": Ability(("genai_prices.",), {"budget.published"}),
    "know pyarrow": Ability(("pyarrow.",), {"core.arrow_values", "files.input", "files.output"}),
    "know what unpacks replies": Ability(("brotli.", "backports.", "compression."), {"core.compressed"}),
    "know Ray": Ability(("ray.",), {"cluster.engine"}),
    "know prometheus_client": Ability(("prometheus_client.",), {"metrics.prometheus"}),
    "know OpenTelemetry": Ability(("opentelemetry.",), {"metrics.otlp"}),
    "know python_calamine": Ability(("python_calamine.",), {"files.input.workbook"}),
    "know pypdfium2": Ability(("pypdfium2.",), {"tasks.documents.pdf"}),
    "know usearch": Ability(("usearch.",), {"runs.near_duplicates"}),
    "know fsspec": Ability(("fsspec.", "s3fs."), {"files.remote"}),
    "know python-dotenv": Ability(("dotenv.",), {"core.config.env_file"}),
    "know sqlite3": Ability(("sqlite3.",), {"store.cache.kept_replies"}),
    "know jsonschema_rs": Ability(("jsonschema_rs.",), {"tasks.schema", "simulator.replies.reply_schema"}),
    "know pydantic": Ability(("pydantic.",), {"tasks.models"}),
    "know cloudpickle": Ability(("cloudpickle.",), {"tasks.pickled_types"}),
    "know Jinja2": Ability(("jinja2.",), {"tasks.bounded", "tasks.jinja"}),
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

    imports: set[str] = field(default_factory=set)  # "rowmill.flow.rate", "rich.live.Live"
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
    source = Source(imports=imports_of(tree))
    known: dict[str, str] = {}  # local name -> dotted
    for node in ast.walk(tree):
        known.update(imported(node))
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
    """Return the file of every module of the package by its name below `rowmill`; the package's own file is ""."""
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
        found += [dotted for _, dotted in imported(node)]
    return found


def within(module: str, allowed: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in allowed)


# The rules


def test_every_room_imports_what_the_map_says_and_no_other() -> None:
    assert {room: set(others) for room, others in rooms.rooms_of(PACKAGE).items()} == MAY_IMPORT


def test_no_arrow_runs_up_and_none_in_a_circle() -> None:
    """The rooms stand in the map as they stand in the house."""
    assert rooms.circles(rooms.rooms_of(PACKAGE)) == []
    floors = rooms.floors(rooms.rooms_of(PACKAGE))
    assert list(MAY_IMPORT) == sorted(MAY_IMPORT, key=lambda room: -floors[room])


def test_no_two_classes_share_a_name() -> None:
    """One word, one thing: private classes too, for a reader searches by name."""
    places: dict[str, list[str]] = {}
    for module, path in files().items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == TWICE


def test_no_module_name_stands_in_three_folders_for_three_things() -> None:
    places: dict[str, list[str]] = {}
    for module in filter(None, files()):
        folder, _, name = module.rpartition(".")
        places.setdefault(name, []).append(folder)
    assert {name: where for name, where in places.items() if len(where) > 2} == THRICE


@pytest.mark.parametrize("part", APART)
def test_parts_of_a_room_stay_apart(part: str) -> None:
    sources = [(name, source) for name, source in modules().items() if within(name, {part})]
    assert sources, f"{part} is no part of the package (any more)"
    for name, source in sources:
        known = {each.removeprefix("rowmill.") for each in source.imports if each.startswith("rowmill.")}
        assert not [each for each in known if within(each, APART[part])], f"rowmill.{name}"


def test_the_package_itself_imports_nothing() -> None:
    """Where it is run: what a type checker reads is passed over, and so is what a name needs that is asked for."""
    assert not [name for name in imported_at_once(PACKAGE / "__init__.py") if name.startswith("rowmill")]


@pytest.mark.parametrize("what", CLOSED)
def test_only_the_listed_modules_may(what: str) -> None:
    ability = CLOSED[what]
    for module, source in modules().items():
        if not within(module, ability.modules):
            used = source.uses(ability.names)
            assert not used, f"rowmill.{module} may not {what}: {sorted(used)}"


@pytest.mark.parametrize("what", CLOSED)
def test_no_module_is_listed_without_need(what: str) -> None:
    ability = CLOSED[what]
    for listed in ability.modules:
        users = [name for name, source in modules().items() if within(name, {listed}) and source.uses(ability.names)]
        assert users, f"rowmill.{listed} does not {what} (any more): strike it from the list"


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


def test_the_reader_finds_imports_of_the_package_in_every_form(tmp_path: Path) -> None:
    package = tmp_path / "house"
    text = """
from house import attic as top, __version__
from house.hall.stairs import Step
import house.cellar.wine
def f():
    from house.kitchen import stove
"""
    for room in ("attic", "hall", "cellar", "kitchen", "porch"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text(text if room == "porch" else "")
    arrows = rooms.rooms_of(package)
    assert set(arrows["porch"]) == {"attic", "hall", "cellar", "kitchen"}
    assert rooms.floors(arrows) == {"attic": 1, "hall": 1, "cellar": 1, "kitchen": 1, "porch": 2}


def test_a_circle_is_found_and_drawn(tmp_path: Path) -> None:
    package = tmp_path / "house"
    package.mkdir()
    for room, other in (("a", "b"), ("b", "c"), ("c", "b"), ("d", "d")):
        (package / f"{room}.py").write_text(f"import house.{other}\n")
    assert rooms.circles(rooms.rooms_of(package)) == [{"b", "c"}]
    assert rooms.drawn(package).splitlines()[-1] == "4 rooms on 2 floors, 3 arrows, 2 of them up, 1 circles"
