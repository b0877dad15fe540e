"""The fenced blocks of a page, done one after the other as its reader does them: in one shell, in one directory.

`sh` blocks run, by bash, in the directory and with the environment that the block before has left; `python` blocks run
as programs; `toml` blocks are configurations and have to load; `json` and `text` show what the block before has
printed. A block whose first line is a comment with a file's name is that file's content, and `# added to NAME` comes
behind what there is; a program in a file of its own is left to the later block that runs it, if there is one.

A comment of HTML before a block says what is special, and is not seen by readers: `<!-- exit 1 -->` for a block that
ends so, `<!-- background -->` for one that goes on beside the next ones.

Whatever server a configuration names, it is asked in its place the simulator that the tests have started.
"""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from markdown_it import MarkdownIt

from rowmill.core import config
from rowmill.interface.cli import arguments
from scripts.ports import kept_port

PLAIN = ("sh", "python", "toml", "json", "yaml", "text")
_LIMIT_S = 100.0  # for one block: none takes more than seconds, but the machine may be busy
# What stands around a part of a configuration, as a block may show one.
_AROUND: dict[str, Any] = {
    "input": {"path": "rows.jsonl"},
    "task": {"model": "gpt-5-mini", "prompt": "{text}"},
    "output": {"path": "replies.jsonl"},
}
# Imported by every process as it starts: the servers that configurations name are one on this machine.
_ELSEWHERE = """
import importlib.util, os, re, sys


class Elsewhere:
    def find_spec(self, name, path=None, target=None):
        if name != "rowmill.core.config.credentials":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            import msgspec
            endpoint = module.endpoint

            def here(*arguments):
                made = endpoint(*arguments)
                host = re.sub("^https?://", "", made.base_url).partition("/")[0]
                if host in os.environ["PAGE_HOSTS"].split():
                    return made
                named = re.sub("[^a-z0-9]+", "-", host)
                return msgspec.structs.replace(made, base_url=f"{os.environ['PAGE_SERVER']}/{named}/v1")

            module.endpoint = here

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Elsewhere())
"""
# In one write: several may do so at a time.
_RECORD = """#!/usr/bin/env bash
printf '%s\\0' "$(basename "$0")" "$@" $'\\n' >>"$PAGE_STATE/not-run"
"""


class Block(NamedTuple):
    """A fenced block."""

    line: int  # of the page, from 1
    kind: str
    text: str
    notes: tuple[str, ...]  # what comments of HTML before it say

    @property
    def file(self) -> str | None:
        """The file whose content, or end, it is."""
        named = re.match(r"# (?:added to )?([\w./-]+\.(?:toml|py|ya?ml))\n", self.text)
        return named[1] if named else None

    @property
    def added(self) -> bool:
        """Whether it comes behind what the file has."""
        return self.text.startswith("# added to ")

    @property
    def exit(self) -> int:
        """The exit code that it is to end with."""
        return next((int(note.split()[1]) for note in self.notes if note.startswith("exit ")), 0)


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    notes: tuple[str, ...] = ()
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            notes += tuple(each.strip() for each in re.findall(r"<!--(.*?)-->", token.content, re.DOTALL))
        elif token.type == "fence":
            assert token.map is not None
            yield Block(token.map[0] + 1, token.info.strip(), token.content, notes)
            notes = ()
        elif token.type == "inline":
            notes = ()


def shape(text: str) -> str:
    """Return a line without what differs from run to run: numbers and how they are rounded, ids, widths."""
    text = re.sub(r"\b[0-9a-f]{8,}\b", "#", text)
    text = re.sub(r"\b\d+[dhm]\d\d[hms]\b", "#", text)  # a machine may be slow: "9m58s"
    text = re.sub(r"\d[\d.,]*(?: ?(?:k|M|ms|s|min|h|kB|MB|GB))?\b", "#", text)
    return re.sub(r"[\s─━╸╺]+", " ", text).strip()


def is_like(shown: Any, real: Any) -> bool:
    """Whether a JSON value that is shown is one as it is printed: of its kind, with members that it has, if not all."""
    if isinstance(shown, dict):
        return isinstance(real, dict) and all(name in real and is_like(shown[name], real[name]) for name in shown)
    if isinstance(shown, list):
        return isinstance(real, list) and all(any(is_like(each, other) for other in real) for each in shown)
    if isinstance(shown, int | float) and not isinstance(shown, bool):
        return isinstance(real, int | float) and not isinstance(real, bool)
    return type(shown) is type(real)


def values(text: str, *, among: bool = False) -> list[Any]:
    """Return the JSON values of a text, which is one of them, or has one a line; among: where other lines are, too.

    Raises ValueError where it is neither.
    """
    try:
        return [json.loads(text)]
    except ValueError:
        lines = [line for line in text.splitlines() if line.startswith(("{", "[")) or (line.strip() and not among)]
        return [json.loads(line) for line in lines]


class Reader:
    """Somebody who does what a page says."""

    def __init__(self, page: Path, folder: Path, server: str, not_run: Mapping[str, str], scripts: Path) -> None:
        """Make the directory.

        server: base URL of the simulator that answers, without "/v1"; not_run: commands that are only looked at;
        scripts: a directory of scripts, which are only looked at too.
        """
        self._page = page
        self._state = folder / "state"
        self._home = folder / "home"
        self._printed = ""
        self._shells: list[subprocess.Popen[bytes]] = []  # each the first of a group of its own
        for made in (self._state / "bin", self._home / scripts.name):
            made.mkdir(parents=True)
        for stand_in in (
            *(self._state / "bin" / name for name in not_run),
            *(self._home / scripts.name / each.name for each in scripts.iterdir() if os.access(each, os.X_OK)),
        ):
            stand_in.write_text(_RECORD)
            stand_in.chmod(0o755)
        (self._state / "sitecustomize.py").write_text(_ELSEWHERE)
        (self._state / "not-run").touch()
        # A server that the page itself starts is its own, at a port that is free.
        self._ports = {port: str(kept_port()) for port in re.findall(r"--port (\d+)", page.read_text(encoding="utf-8"))}
        own = [f"{host}:{port}" for host in ("127.0.0.1", "localhost") for port in self._ports.values()]
        self._environ = {
            "PATH": f"{self._state / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self._home),
            "LANG": "C.UTF-8",
            "COLUMNS": "120",
            "PYTHONPATH": str(self._state),
            "OPENAI_API_KEY": "sk-a-key-of-tests",
            "PAGE_SERVER": server,
            "PAGE_HOSTS": " ".join([config.SIMULATOR, *own]),
            "PAGE_STATE": str(self._state),
        }

    def do(self, block: Block) -> None:
        """Do what a block says. Raises AssertionError where it does not do what the page says."""
        text = block.text
        for port, free in self._ports.items():
            text = re.sub(rf"(--port |:){port}\b", rf"\g<1>{free}", text)
        if block.file is not None:
            path = self._here / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((path.read_text() if block.added and path.exists() else "") + text)
        match block.kind:
            case "sh":
                self._shell(block, text)
            case "python":
                compile(text, f"{self._page.name}:{block.line}", "exec")
                if block.file is None or not self._is_run_later(block):
                    name = block.file or f"block-{block.line}.py"
                    (self._here / name).write_text(text)
                    self._shell(block, f"python {name}")
            case "toml":
                self._configuration(block, text)
            case "yaml":
                assert list(yaml.safe_load_all(text))
            case "json":
                self._compare_values(text)
            case "text":
                self._compare_lines(text)

    def end(self) -> None:
        """End what goes on in the background."""
        for shell in self._shells:
            try:
                os.killpg(shell.pid, signal.SIGKILL)
            except ProcessLookupError:  # all of it has ended
                continue
            shell.wait()

    def not_run(self) -> list[list[str]]:
        """Return the commands that were only looked at, as words."""
        recorded = (self._state / "not-run").read_text()
        return [words.split("\0")[:-1] for words in recorded.split("\n\0")[:-1]]

    @property
    def _here(self) -> Path:
        """The directory that the shell is in."""
        told = self._state / "cwd"
        return Path(told.read_text().rstrip("\n")) if told.exists() else self._home

    def _is_run_later(self, block: Block) -> bool:
        later = (each for each in blocks(self._page) if each.line > block.line and each.kind == "sh")
        return any(str(block.file) in each.text for each in later)

    def _shell(self, block: Block, text: str) -> None:
        """Have bash do it, as if the same shell had done all blocks before."""
        printed = self._state / f"printed-{block.line}"
        left = self._state / "environment"
        before = f". {shlex.quote(str(left))}" if left.exists() else ":"
        script = f"{before}\ntrap 'pwd >$PAGE_STATE/cwd; export -p >$PAGE_STATE/environment' EXIT\n{text}"
        with printed.open("w") as out:
            shell = subprocess.Popen(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=self._here,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._shells.append(shell)
        if "background" not in block.notes:
            code = shell.wait(_LIMIT_S)
            assert code == block.exit, f"exit code {code}:\n{printed.read_text()}"
        for port in self._ports.values():
            if f"--port {port}" in text:
                _wait_for(int(port), shell)
        self._printed = printed.read_text()

    def _configuration(self, block: Block, text: str) -> None:
        tree = tomllib.loads((self._here / block.file).read_text() if block.file else text)
        config.parse(tree if "input" in tree else {**_AROUND, **tree}, "the block")

    def _compare_values(self, text: str) -> None:
        shown = values(text)
        if self._printed:
            real = values(self._printed, among=True)
            odd = [value for value in shown if not any(is_like(value, other) for other in real)]
            assert odd == [], f"printed was\n{self._printed}"

    def _compare_lines(self, text: str) -> None:
        """Each line that is shown was printed, in this order; "..." stands for any."""
        printed = [shape(line) for line in self._printed.splitlines()]
        rest = iter(printed)
        for line in text.splitlines():
            if (looked_for := shape(line)) and looked_for != "...":
                assert looked_for in rest, f"{line!r} was not printed, as\n{looked_for}\nin\n" + "\n".join(printed)


def _wait_for(port: int, shell: "subprocess.Popen[bytes]") -> None:
    """Wait until somebody listens. It is told to the next block: who reads a page sees it."""
    for _ in range(int(_LIMIT_S / 0.05)):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            try:
                shell.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        else:
            return
    raise AssertionError(f"nobody listens at port {port}")


def is_understood(words: list[str]) -> bool:
    """Whether the command line of `rowmill` in a command that was only looked at is one."""
    if "rowmill" not in words:
        return True
    try:
        arguments.parser().parse_args(words[words.index("rowmill") + 1 :])
    except SystemExit as end:
        return not end.code
    return True
