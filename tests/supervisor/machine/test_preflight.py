"""What is asked of the machine against what it has, before a run starts."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rowmill
from rowmill.core.errors import ExitCode, MachineError
from rowmill.supervisor.machine.preflight import Ask, Preflight, estimate_output, preflight
from rowmill.supervisor.machine.readings import Descriptors, Disk

ROOT = Path(rowmill.__file__).parents[1]
MB = 1_000_000
GB = 1000 * MB
ROOMY = Disk(1, 500 * GB, 400 * GB)


def ask(**changes: Any) -> Ask:
    settings: dict[str, Any] = {
        "workers": 4,
        "concurrency": 64,
        "run_dir": Path("out.jsonl.run"),
        "output": Path("out.jsonl"),
    }
    return Ask(**{**settings, **changes})


def check(
    *,
    files: tuple[int, int] = (20_000, 20_000),
    ports: int | None = 28_232,
    disk: Callable[[Path], Disk | None] = lambda _: ROOMY,
    **asked: Any,
) -> Preflight:
    return preflight(ask(**asked), descriptors=lambda: Descriptors(*files), ports=lambda: ports, disk=disk)


def test_where_there_is_enough_of_everything_nothing_is_said_and_nothing_is_changed() -> None:
    assert check() == (64, ())


def test_a_raised_limit_is_said() -> None:
    assert check(files=(1024, 524_288)) == (64, ("open files: limit raised from 1,024 to 524,288",))


# Ceilings


def test_a_ceiling_beyond_the_open_files_of_a_worker_is_lowered() -> None:
    ceiling, (line,) = check(files=(512, 512), concurrency=1000)
    assert ceiling == 512 - 128
    assert line == (
        "workers.concurrency: lowered from 1,000 to 384 in each of 4 workers: "
        "a process may open only 512 files here (ulimit -Hn)"
    )


def test_idle_connections_to_every_provider_count() -> None:
    assert check(files=(512, 512), concurrency=200).concurrency == 200
    assert check(files=(512, 512), concurrency=200, providers=3).concurrency == 128


def test_the_embedded_simulator_holds_the_other_end_of_all_connections() -> None:
    assert check(files=(1064, 1064), concurrency=300).concurrency == 300
    ceiling, (line,) = check(files=(1064, 1064), concurrency=300, embedded=True)
    assert ceiling == 250
    assert "the simulator too" in line
    assert check(files=(1064, 1064), concurrency=300, providers=2, embedded=True).concurrency == 125


def test_a_ceiling_beyond_the_local_ports_is_lowered() -> None:
    ceiling, (line,) = check(files=(10**6, 10**6), concurrency=10_000)
    assert ceiling == 6352
    assert 4 * ceiling < 0.9 * 28_232 < 4 * (ceiling + 1)
    assert "28,232 local ports" in line
    assert "net.ipv4.ip_local_port_range" in line
    assert check(files=(10**6, 10**6), concurrency=10_000, ports=None) == (10_000, ())
    assert check(ports=1).concurrency == 1  # odd, but no reason not to try


def test_the_tightest_of_several_limits_is_the_one_that_is_said() -> None:
    ceiling, (line,) = check(files=(1128, 1128), concurrency=10_000)
    assert ceiling == 1000
    assert "1,128 files" in line


def test_a_ceiling_that_nobody_chose_is_lowered_without_a_word_until_little_is_left() -> None:
    assert check(files=(10**6, 10**6), concurrency=16_384, chosen=False) == (6352, ())
    ceiling, (line,) = check(files=(256, 256), concurrency=16_384, chosen=False)
    assert ceiling == 128
    assert line.startswith("workers.concurrency: at most 128 in each of 4 workers")


def test_too_few_open_files_for_anything_are_refused() -> None:
    assert check(files=(129, 129), workers=2).concurrency == 1
    with pytest.raises(MachineError, match=r"only 128 files.*2 workers need 129.*ulimit -Hn") as caught:
        check(files=(128, 128), workers=2)
    assert caught.value.exit_code == ExitCode.MACHINE
    with pytest.raises(MachineError, match=r"256 workers need 1,088.*lower workers\.count"):
        check(files=(1024, 1024), workers=256)


# Disks


def test_a_disk_that_may_be_too_small_is_said_with_what_is_needed_at_most() -> None:
    small = Disk(1, 500 * GB, 14 * GB)
    assert check(disk=lambda _: small, output_bytes=4 * GB) == (64, ())
    ceiling, (line,) = check(disk=lambda _: small, output_bytes=5 * GB)
    assert ceiling == 64
    assert line.startswith("disk of out.jsonl.run: 14 GB free, and the run may write up to about 15 GB;")


def test_run_directory_and_output_on_two_disks_need_their_own_parts() -> None:
    disks = {Path("out.jsonl.run"): Disk(1, 500 * GB, 9 * GB), Path("out.jsonl"): Disk(2, 500 * GB, 4 * GB)}
    assert check(disk=disks.get, output_bytes=3 * GB) == (64, ())
    lines = check(disk=disks.get, output_bytes=5 * GB).lines
    assert [line.partition(";")[0] for line in lines] == [
        "disk of out.jsonl.run: 9.0 GB free, and the run may write up to about 10 GB",
        "disk of out.jsonl: 4.0 GB free, and the run may write up to about 5.0 GB",
    ]


def test_what_earlier_sessions_have_written_is_not_needed_again(tmp_path: Path) -> None:
    run_dir = tmp_path / "out.jsonl.run"
    (run_dir / "checkpoints").mkdir(parents=True)
    (run_dir / "checkpoints" / "000000.ckpt").write_bytes(b"x" * 1_500_000)
    settings: dict[str, Any] = {"run_dir": run_dir, "output": tmp_path / "out.jsonl", "output_bytes": MB}
    assert check(disk=lambda _: Disk(1, 500 * GB, 1_600_000), min_free_mb=0, **settings).lines == ()
    assert len(check(disk=lambda _: Disk(1, 500 * GB, 1_400_000), min_free_mb=0, **settings).lines) == 1


def test_a_disk_on_which_the_run_would_pause_at_once_is_said() -> None:
    (line,) = check(disk=lambda _: Disk(1, 500 * GB, 90 * MB)).lines
    assert line == "disk of out.jsonl.run: 90 MB free: nothing is sent until there are 256 MB"


def test_a_disk_on_which_the_run_would_pause_for_ever_is_refused() -> None:
    with pytest.raises(MachineError, match=r"disk of out\.jsonl\.run has 2\.0 GB in all.*lower machine\.min_free_mb"):
        check(disk=lambda _: Disk(1, 2 * GB, GB), min_free_mb=2000)


def test_disks_that_say_nothing_are_no_reason_for_anything() -> None:
    assert check(disk=lambda _: None, output_bytes=10**15) == (64, ())


@pytest.mark.parametrize(
    ("params", "reply"),
    [
        ({}, 1024),
        ({"max_tokens": 80}, 320),
        ({"max_completion_tokens": 1000, "max_tokens": 80}, 4000),
        ({"max_tokens": "80"}, 1024),
        ({"max_tokens": 0}, 1024),
    ],
)
def test_the_output_is_estimated_from_the_first_rows_and_the_longest_reply(params: dict[str, Any], reply: int) -> None:
    lines = [b"x" * 99 + b"\n", b"x" * 299 + b"\n"]
    assert estimate_output(2_000_000, lines, params, include_input=False) == 10_000 * (350 + reply)
    assert estimate_output(2_000_000, lines, params, include_input=True) == 10_000 * (350 + reply + 200)


def test_an_empty_input_writes_nothing() -> None:
    assert estimate_output(0, [], {}, include_input=True) == 0


# The real readings

REAL_CHILD = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (100, int(sys.argv[1])))
from rowmill.core.errors import MachineError
from rowmill.supervisor.machine.preflight import Ask, preflight
try:
    result = preflight(Ask(workers=2, concurrency=500, run_dir=Path("r.run"), output=Path("r"), min_free_mb=0))
except MachineError as error:
    print("refused", error)
else:
    print(result.concurrency, resource.getrlimit(resource.RLIMIT_NOFILE), *result.lines, sep="\\n")
"""


def real_child(hard: int) -> list[str]:
    command = [sys.executable, "-c", REAL_CHILD, str(hard)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()


def test_in_a_process_with_few_descriptors() -> None:
    ceiling, limits, raised, lowered = real_child(400)
    assert (ceiling, limits) == ("272", "(400, 400)")
    assert raised == "open files: limit raised from 100 to 400"
    assert lowered.startswith("workers.concurrency: lowered from 500 to 272 in each of 2 workers: ")


def test_in_a_process_with_too_few_descriptors() -> None:
    (line,) = real_child(110)
    assert line.startswith("refused a process may open only 110 files here")


def test_on_this_machine_as_it_is(tmp_path: Path) -> None:
    result = preflight(ask(workers=2, concurrency=4, run_dir=tmp_path / "out.jsonl.run", output=tmp_path / "out.jsonl"))
    assert result.concurrency == 4
