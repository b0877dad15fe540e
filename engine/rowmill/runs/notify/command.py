"""A program of the user's that is told: the facts as JSON on its stdin, and as `ROWMILL_*` in its environment."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO

import msgspec

from rowmill.core.errors import ConfigError
from rowmill.runs.notify.news import News

_SHELL = "/bin/sh"
_PLAIN_WORD = re.compile(r"\s*([\w./+-]+)(?=\s|$)")
_LOOK_S = 0.02  # between two looks at whether it has ended
_TAIL = 2048  # bytes of what it said last that are looked at


class Program:
    """Runs it, in a session of its own: a Ctrl-C at the run's terminal is not meant for it."""

    name = "command"

    def __init__(self, command: str | list[str], environ: Mapping[str, str], timeout_s: float) -> None:
        """`command`: a program and its arguments, or a line for the shell. Raises `ConfigError` without it."""
        self._words = [_SHELL, "-c", command] if isinstance(command, str) else command
        self._environ = environ
        self._timeout_s = timeout_s
        program = self._words[0]
        missing = shutil.which(program, path=environ.get("PATH", os.defpath)) is None
        # Of a line for the shell its first word, where that is a plain one: the shell knows more than programs.
        if isinstance(command, str) and (first := _PLAIN_WORD.match(command)):
            program = first[1]
            asked = [_SHELL, "-c", 'command -v -- "$0" >/dev/null', program]
            missing = subprocess.run(asked, env=environ, check=False).returncode != 0  # noqa: S603 - it only looks
        if missing:
            where = "cannot be executed" if os.path.exists(program) else "is not found"  # noqa: PTH110 - "~" is none here
            raise ConfigError(f"notify.command: {program!r} {where}; write its whole path")

    def tell(self, news: News, given_up: threading.Event) -> str | None:
        """Run it to its end. Returns what went wrong, in words."""
        until = time.monotonic() + self._timeout_s
        facts = {name: "" if value is None else str(value) for name, value in msgspec.structs.asdict(news).items()}
        environ = {**self._environ, **{f"ROWMILL_{name.upper()}": value for name, value in facts.items()}}
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own words
                    self._words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,  # the run's own may be data
                    stderr=said,
                    env=environ,
                    start_new_session=True,
                )
            except OSError as error:
                return f"cannot be started: {error.strerror}"
            with suppress(BrokenPipeError), process.stdin as stdin:  # type: ignore[union-attr]  # it is a pipe; fits into it
                stdin.write(msgspec.json.encode(news) + b"\n")
            while (code := process.poll()) is None and time.monotonic() < until and not given_up.wait(_LOOK_S):
                pass
            if code is None:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return f"had not ended after {self._timeout_s:g} s, and was killed"
            if code == 0:
                return None
            end = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
            last = _last_line(said)
            return f"{end}: {last}" if last else end


def _last_line(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - _TAIL))
    lines = said.read().decode("utf-8", "replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
