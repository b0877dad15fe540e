"""What is looked at before a run starts: descriptors, local ports, free disk.

Too little of something is said, and costs as little as it can: a ceiling that could never be reached is lowered, a disk
that may be too small is a warning. Only what makes it certain that the run cannot work is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rowmill.core.errors import MachineError
from rowmill.supervisor.machine import readings
from rowmill.supervisor.machine.disks import FileSystem, file_systems, least_free, size_text
from rowmill.supervisor.machine.readings import Descriptors, Disk

_OWN_DESCRIPTORS = 64  # of any process: standard streams, pipes, locks, the loop's own; about 30 were counted
_OPEN_SHARDS = 64  # files that a worker may have open beside its connections
_DESCRIPTORS_A_WORKER = 4  # that the supervisor has for each: a pipe, a sentinel, and twice that while it starts
_PORT_SHARE = 0.9  # the rest is for other programs, and for connections that are being closed
_SMALL_CEILING = 256  # lowered below that, a ceiling that nobody asked for is worth a word too

_LINE_BYTES = 350  # of an output line without its text: index, id, finish_reason, model, usage
_TOKEN_BYTES = 4  # of the text, for each token of the reply
_REPLY_BYTES = 1024  # of a reply whose length nothing bounds
_RUN_COPIES = 2  # of the output in the run directory, for each step: checkpoints, sealed shards


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What a run wants of the machine.

    workers: processes.
    concurrency: ceiling of the requests in flight of each.
    chosen: the user named that ceiling; where not, lowering it is only worth a word when little is left.
    providers: servers that a worker keeps connections to.
    embedded: the endpoint is one process of this run, which holds the other end of every connection.
    run_dir, output: where the run writes.
    output_bytes: estimate of the whole output (see `estimate_output`); 0 where nothing is known.
    min_free_mb: as in the configuration.
    steps: that each write as much as the last one.
    """

    workers: int
    concurrency: int
    chosen: bool = True
    providers: int = 1
    embedded: bool = False
    run_dir: Path
    output: Path
    output_bytes: int = 0
    min_free_mb: int | Literal["auto"] = "auto"
    steps: int = 1


class Preflight(NamedTuple):
    """What came of it."""

    concurrency: int  # ceiling of each worker's requests in flight: as asked, or lowered
    lines: tuple[str, ...]  # what was changed, and what may not be enough


def preflight(
    ask: Ask,
    *,
    descriptors: Callable[[], Descriptors] = readings.raise_descriptor_limit,
    ports: Callable[[], int | None] = readings.ephemeral_ports,
    disk: Callable[[Path], Disk | None] = readings.disk,
) -> Preflight:
    """Raise the limit of open files, hold what is asked against what there is, say what was changed or may not do.

    Raises `MachineError` where the run could not work at all. To be called before any process of the run is started:
    they inherit the limit.
    """
    lines = []
    files = descriptors()
    if files.now > files.before:
        lines.append(f"open files: limit raised from {files.before:,} to {files.now:,}")
    ceiling, line = _ceiling(ask, files.now, ports())
    if line is not None:
        lines.append(line)
    lines += _disk_lines(ask, disk)
    return Preflight(ceiling, tuple(lines))


def estimate_output(
    input_bytes: int, first_lines: Sequence[bytes], params: Mapping[str, Any], *, include_input: bool, copies: int = 1
) -> int:
    """Return about how many bytes the output will have, at most.

    `first_lines`: of the input, to tell from how many rows it has; `params`: of the requests, which may bound replies.
    `copies`: how often each line has the reply's text.
    """
    seen = sum(map(len, first_lines))
    if not seen:
        return 0
    rows = input_bytes * len(first_lines) / seen
    reply = _LINE_BYTES + copies * _reply_bytes(params)
    return round(rows * reply) + (input_bytes if include_input else 0)


def _reply_bytes(params: Mapping[str, Any]) -> int:
    for key in ("max_completion_tokens", "max_tokens"):
        tokens = params.get(key)
        if isinstance(tokens, int) and tokens > 0:
            return tokens * _TOKEN_BYTES
    return _REPLY_BYTES


def _ceiling(ask: Ask, files: int, ports: int | None) -> tuple[int, str | None]:
    """Return how many requests a worker can have in flight, and a line where that is fewer than asked for."""
    spare = _OWN_DESCRIPTORS + _OPEN_SHARDS
    needed = max(spare + ask.providers, _OWN_DESCRIPTORS + ask.workers * _DESCRIPTORS_A_WORKER)
    if files < needed:
        raise MachineError(
            f"a process may open only {files:,} files here, and {ask.workers} workers need {needed:,}: raise the limit "
            "(ulimit -Hn), or lower workers.count"
        )
    open_files = f"a process may open only {files:,} files here (ulimit -Hn)"
    # Idle connections to one provider stay open while another is used, so each may have as many as all together.
    rooms = [((files - spare) // ask.providers, open_files)]
    if ask.embedded:
        room = (files - _OWN_DESCRIPTORS) // (ask.workers * ask.providers)
        rooms.append((max(1, room), f"{open_files}, the simulator too"))
    if ports is not None:
        why = f"the system has only {ports:,} local ports for connections to one server (net.ipv4.ip_local_port_range)"
        rooms.append((max(1, int(ports * _PORT_SHARE) // ask.workers), why))
    room, why = min(rooms)
    if room >= ask.concurrency:
        return ask.concurrency, None
    if not ask.chosen and room >= _SMALL_CEILING:
        return room, None
    asked = f"lowered from {ask.concurrency:,} to" if ask.chosen else "at most"
    return room, f"workers.concurrency: {asked} {room:,} in each of {ask.workers} workers: {why}"


def _disk_lines(ask: Ask, disk: Callable[[Path], Disk | None]) -> list[str]:
    lines = []
    for system in file_systems((ask.run_dir, ask.output), disk):
        floor = least_free(ask.min_free_mb, system.found.total)
        if floor >= system.found.total:
            raise MachineError(
                f"{system.label} has {size_text(system.found.total)} in all, and the run would pause below "
                f"{size_text(floor)} free: lower machine.min_free_mb"
            )
        free = size_text(system.found.free)
        if system.found.free < floor:
            lines.append(f"{system.label}: {free} free: nothing is sent until there are {size_text(floor)}")
        elif (needed := _still_to_write(ask, system)) > system.found.free:
            lines.append(
                f"{system.label}: {free} free, and the run may write up to about {size_text(needed)}; where that is "
                "not enough it stops, and goes on by the same command"
            )
    return lines


def _still_to_write(ask: Ask, system: FileSystem) -> int:
    needed = 0
    if ask.run_dir in system.paths:
        needed += max(0, _RUN_COPIES * ask.steps * ask.output_bytes - _held(ask.run_dir))
    if ask.output in system.paths:
        needed += ask.output_bytes
    return needed


def _held(folder: Path) -> int:
    """Return the bytes that a run directory has already, from earlier sessions."""
    held = 0
    for path in folder.rglob("*"):
        try:
            held += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return held
