"""Run directories as they lie there, written by the code's own writers: a minute of work in a millisecond."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rowmill.core.config import Config, fingerprint, parse
from rowmill.core.counts import Counters, Totals
from rowmill.core.moments import Moment
from rowmill.core.reports import Cost, RunReport, SessionReport, Status, to_json
from rowmill.files.input import inputs, jsonl
from rowmill.runs.preparation import settled
from rowmill.store import manifest as manifests
from rowmill.store.framing import framed
from rowmill.store.manifest import READING, Finished, Manifest
from rowmill.store.recovery import group_record, header_record
from rowmill.store.run_directory import RunDirectory
from tests.interface.ui.snapshots import BUSY

STARTED = 1_795_946_400.0  # 2026-11-29T10:00:00Z


def session(name: str, rows: int, *, start: float = 0.0, seconds: float = 60.0, **more: Any) -> SessionReport:
    """Return a session that began so many seconds after the run did."""
    counters = more.pop("counters", Counters(rows=rows, requests=rows))
    return msgspec.convert(
        {
            "id": name,
            "started": time_of(start),
            "ended": time_of(start + seconds),
            "exit_code": 0,
            "stopped_by": None,
            "elapsed_s": seconds,
            "rows": rows,
            "rows_per_s": rows / seconds,
            "counters": msgspec.to_builtins(counters),
            "in_flight_max": 8,
            "allowed": 8,
            "workers": 2,
            "deaths": 0,
            "quarantined": 0,
            "billed_twice_max": 0,
            "cpu_s": 1.0,
            "rss_max_bytes": {"worker": 50_000_000},
            **msgspec.to_builtins(more),
        },
        SessionReport,
    )


def time_of(after: float) -> str:
    """Return a time as a run directory writes it."""
    minutes, seconds = divmod(int(after), 60)
    hours, minutes = divmod(minutes, 60)
    return f"2026-11-29T{10 + hours:02d}:{minutes:02d}:{seconds:02d}+00:00"


def configured(folder: Path, **sections: Mapping[str, Any] | list[Any]) -> Config:
    """Return a configuration over `rows.jsonl` of this folder."""
    tree: dict[str, Any] = {
        "input": {"path": str(folder / "rows.jsonl"), "id": "id"},
        "task": {"model": "mini", "prompt": "Sort: {text}"},
        "output": {"path": str(folder / "out.jsonl")},
        "provider": [{"name": "main", "base_url": "http://127.0.0.1:1/v1"}],
    }
    for name, keys in sections.items():
        tree[name] = keys if isinstance(keys, list) else tree.get(name, {}) | dict(keys)
    return parse(tree, "test")


def line_of(index: int, output: Any = None, *, fault: str | None = None, message: str = "no", **more: Any) -> bytes:
    """Return the output line of a row."""
    error = None if fault is None else {"class": fault, "code": "c", "status": 500, "message": message}
    return msgspec.json.encode(
        {
            "index": index,
            "id": f"id-{index}",
            "output": output if fault is None else None,
            "error": error,
            "finish_reason": "stop" if fault is None else None,
            "model": "mini" if fault is None else None,
            "usage": {"prompt_tokens": 6, "completion_tokens": 2} if fault is None else None,
            **more,
        }
    )


def record_of(index: int, line: bytes) -> bytes:
    """Return its record in a checkpoint."""
    failed = b"true" if b'"output":null,"error":{' in line else b"false"
    return framed(
        b'{"row":%d,"attempts":1,"requests":1,"ms":7,"provider":"main","failed":%b,"usage":[6,2],"line":%b}'
        % (index, failed, line)
    )


def write_run(
    config: Config,
    lines: Sequence[bytes],
    *,
    rows: Iterable[bytes] = (),
    sessions: Sequence[SessionReport] = (),
    moments: Sequence[Moment] = (),
    failures: Mapping[str, int] | None = None,
    cost: Cost | None = None,
    finished: bool = True,
    records: Sequence[bytes] = (),
) -> RunDirectory:
    """Write a run with these output lines. rows: of the input; left out: as many as there are lines."""
    text = b"".join(rows) or b"".join(b'{"id":"id-%d","text":"row %d"}\n' % (at, at) for at in range(len(lines)))
    config.input_path.write_bytes(text)
    found = inputs.find(config.input)
    size = jsonl.shard_bytes(found.size)
    shards = list(jsonl.plan_blocks([text], shard_bytes=size, shard_rows=jsonl.SHARD_ROWS))
    count = len(lines)
    failed = sum(b'"output":null,"error":{' in line for line in lines)
    own = settled(config, found)
    with RunDirectory.open(config.run_dir) as directory:
        for shard in shards:
            header = header_record(shard)
            body = [record_of(at, lines[at]) for at in range(shard.first_row, shard.first_row + shard.rows)]
            body = [*body, *(records if shard is shards[-1] else ())]
            data = header + group_record(0, len(header)) + b"".join(body)
            directory.checkpoint_path(shard).write_bytes(data + group_record(1, len(data)))
        manifests.save_plan(directory.plan, shards)
        manifest = Manifest(
            run_id="r1",
            created=time_of(0),
            fingerprint=fingerprint(own) | {"input.limit": None, "input.sample": None},
            input=found.files,
            shard_bytes=size,
            shard_rows=jsonl.SHARD_ROWS,
            reading=READING,
        )
        if finished:
            output = b"".join(line + b"\n" for line in lines)
            config.output_path.write_bytes(output)
            manifest.finished = Finished(str(config.output_path.resolve()), len(output), None, 0, time_of(60))
        manifests.save(directory.manifest, manifest)
        report = RunReport(
            run="r1",
            finished=finished,
            input=str(config.input_path),
            output=str(config.output_path),
            errors=None,
            rows=len(lines),
            totals=Totals(
                rows=len(lines), failed=failed, prompt_tokens=6 * len(lines), completion_tokens=2 * len(lines)
            ),
            failures=dict(failures or {}),
            cost=cost,
            sessions=list(sessions or [session("s1", count)]),
        )
        directory.report.write_bytes(to_json(report))
        if moments:
            directory.series.write_bytes(b"".join(msgspec.json.encode(each) + b"\n" for each in moments))
    return directory


def tell(directory: RunDirectory, name: str, totals: Totals, at: float) -> None:
    """Write down where a session stands."""
    snapshot = msgspec.structs.replace(BUSY, totals=totals, counters=Counters(rows=totals.rows, requests=totals.rows))
    directory.status.write_bytes(msgspec.json.encode(Status(at=at, session=name, snapshot=snapshot)))
