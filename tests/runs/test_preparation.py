"""What is looked at before a run starts: a mistake is told in one line and leaves every file as it was."""

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rowmill
from rowmill.core import config as configuration
from rowmill.core.amounts import Price
from rowmill.core.config import Config
from rowmill.core.errors import ConfigError, ExitCode, RowmillError, RunDirectoryError
from rowmill.core.rows import Column, Layout
from rowmill.files.input import inputs, jsonl
from rowmill.runs import preparation
from rowmill.runs.check import check
from rowmill.runs.plan import plan
from rowmill.runs.preparation import already_finished, check_new, prepare
from rowmill.runs.steps import checked_tasks
from rowmill.store import manifest as manifests
from rowmill.store.manifest import Finished
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.prepared import Prepared

ROWS = b"".join(b'{"id":%d,"text":"row %d"}\n' % (number, number) for number in range(50))
CONFIGURE = Callable[..., Config]
PRICE = {"input": 1.0, "output": 4.0}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_bytes(ROWS)
    return tmp_path


@pytest.fixture
def configure(home: Path) -> CONFIGURE:
    """Make a configuration that could run; arguments such as task_prompt="..." change or remove a key."""

    def make(**changes: Any) -> Config:
        tree: dict[str, Any] = {
            "input": {"path": "in.jsonl", "id": "id"},
            "task": {"model": "m", "prompt": "Say {text}"},
            "output": {"path": "out.jsonl"},
            "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
        }
        for key, value in changes.items():
            section, _, name = key.partition("_")
            node = tree["provider"][0] if section == "provider" else tree.setdefault(section, {})
            node[name] = value
        return configuration.parse(tree, "test.toml")

    return make


def listing(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything there is: size, time of change and content of every file and folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (stat.st_size, stat.st_mtime_ns, content)
    return found


def close(prepared: Prepared) -> None:
    prepared.directory.close()


def begin(config: Config, *, planned: bool = True) -> Prepared:
    """Do what the first session of a run does, up to its plan, and end it."""
    prepared = prepare(config, {})
    manifest = prepared.manifest
    if planned:
        shards = list(
            prepared.input.plan(
                prepared.directory.spool, shard_bytes=manifest.shard_bytes, shard_rows=manifest.shard_rows
            )
        )
        manifests.save_plan(prepared.directory.plan, shards)
    close(prepared)
    return prepared


def refused(config: Config, environ: dict[str, str] | None = None) -> RowmillError:
    """Prepare a run that must not start; give back why. Nothing may have been written."""
    before = listing(Path())
    with pytest.raises(RowmillError) as error:
        prepare(config, environ or {})
    assert listing(Path()) == before
    assert "\n" not in str(error.value)
    return error.value


# A run that can start


def test_a_new_run_gets_a_locked_directory_and_a_manifest(configure: CONFIGURE) -> None:
    config = configure(workers_count=2)
    prepared = prepare(config, {})
    try:
        assert not prepared.resumed
        assert prepared.shards is None
        assert prepared.input.first_rows(100) == ROWS.splitlines()
        saved = manifests.load(Path("out.jsonl.run/manifest.json"))
        assert saved == prepared.manifest
        assert [(file.path, file.size) for file in saved.input] == [("in.jsonl", len(ROWS))]
        assert saved.fingerprint == {
            **configuration.fingerprint(config),
            "input.limit": None,
            "input.sample": None,
        }
        holder = prepared.directory.holder()
        assert holder is not None
        assert holder.pid == os.getpid()
        assert not Path("out.jsonl").exists()
    finally:
        close(prepared)
    assert prepared.directory.holder() is None


def test_the_key_goes_into_the_endpoint_and_nowhere_else(configure: CONFIGURE) -> None:
    config = configure(provider_api_key_env="MY_KEY", provider_timeout_s=7.5, provider_name="mine")
    prepared = prepare(config, {"MY_KEY": "sk-secret", "OPENAI_API_KEY": "sk-other"})
    close(prepared)
    (endpoint,) = prepared.steps[0].endpoints
    assert (endpoint.provider, endpoint.base_url, endpoint.key) == ("mine", "http://127.0.0.1:1/v1", "sk-secret")
    assert (endpoint.timeout_s, endpoint.openai_account) == (7.5, False)
    assert "sk-secret" in endpoint.secrets
    assert "sk-" not in repr(prepared)
    assert not any(b"sk-" in content for _, _, content in listing(Path()).values())


def test_only_openais_own_url_gets_openais_own_key(configure: CONFIGURE) -> None:
    environ = {"OPENAI_API_KEY": "sk-secret"}
    prepared = prepare(configure(provider_base_url=configuration.OPENAI_URL), environ)
    close(prepared)
    assert [(each.key, each.openai_account) for each in prepared.steps[0].endpoints] == [("sk-secret", True)]
    other = prepare(configure(output_path="other.jsonl"), environ)
    close(other)
    assert [(each.key, each.openai_account) for each in other.steps[0].endpoints] == [(None, False)]


def test_where_requests_go_and_what_they_carry_is_known_before_anything_is_started(configure: CONFIGURE) -> None:
    config = configure(provider_base_url=configuration.OPENAI_URL, task_api="responses", task_prompt="Say {text}")
    prepared = prepare(config, {"OPENAI_API_KEY": "sk-secret", "OPENAI_ORG_ID": "org-1"})
    close(prepared)
    (endpoint,) = prepared.steps[0].endpoints
    assert endpoint.url == f"{configuration.OPENAI_URL}/responses"
    assert dict(endpoint.headers)["openai-organization"] == "org-1"


def test_settings_that_the_openai_package_would_refuse_are_refused_before_anything_is_written(
    configure: CONFIGURE,
) -> None:
    config = configure(provider_base_url="http://1.2.3.256/v1", provider_name="mine")
    error = refused(config)
    assert isinstance(error, ConfigError)
    assert str(error) == (
        "the openai package refuses the settings of provider 'mine': InvalidURL: Invalid IPv4 address: '1.2.3.256'"
    )
    with pytest.raises(ConfigError, match=r"Invalid IPv4 address: '1\.2\.3\.256'"):
        check_new(config, {})
    config = configure(provider_base_url=configuration.OPENAI_URL, provider_name="mine")
    environ = {"OPENAI_API_KEY": "sk-secret", "OPENAI_CUSTOM_HEADERS": "X-Team: sk-secret é"}
    assert str(refused(config, environ)).startswith(
        "the openai package refuses the settings of provider 'mine': UnicodeEncodeError: 'ascii' codec can't encode"
    )


def several(*tables: dict[str, Any], **task: Any) -> Config:
    """Make a configuration that could run, with these providers: a, b, c, ..."""
    named = [{"name": "abc"[place], "base_url": "http://127.0.0.1:1/v1"} | table for place, table in enumerate(tables)]
    tree = {
        "input": {"path": "in.jsonl", "id": "id"},
        "task": {"model": "m", "prompt": "Say {text}"} | task,
        "output": {"path": "out.jsonl"},
        "provider": named,
    }
    return configuration.parse(tree, "test.toml")


@pytest.mark.usefixtures("home")
def test_every_provider_has_its_own_key_headers_and_time_and_no_other_gets_them() -> None:
    config = several(
        {"api_key_env": "KEY_A", "headers": {"X-Team": "a"}, "timeout_s": 5},
        {"headers_env": {"api-key": "AZURE"}},
        {"base_url": configuration.OPENAI_URL},
    )
    prepared = prepare(config, {"KEY_A": "sk-a", "AZURE": "az-secret", "OPENAI_API_KEY": "sk-openai"})
    close(prepared)
    a, b, c = prepared.steps[0].endpoints
    assert [each.provider for each in prepared.steps[0].endpoints] == ["a", "b", "c"]
    assert (a.key, a.extra_headers, a.timeout_s) == ("sk-a", (("X-Team", "a"),), 5)
    assert (b.key, b.extra_headers) == (None, (("api-key", "az-secret"),))
    assert (c.key, c.extra_headers) == ("sk-openai", ())
    # What one server says may hold another's key: routers pass on what they were told.
    assert all({"sk-a", "az-secret", "sk-openai"} <= set(each.secrets) for each in prepared.steps[0].endpoints)
    assert [each.openai_account for each in prepared.steps[0].endpoints] == [False, False, True]
    for secret in ("sk-a", "az-secret", "sk-openai"):
        assert secret not in repr(prepared)
        assert not any(secret.encode() in content for _, _, content in listing(Path()).values())


@pytest.mark.usefixtures("home")
def test_what_one_of_several_lacks_is_told_with_its_name() -> None:
    error = refused(several({}, {"headers_env": {"api-key": "NOT_SET"}}))
    assert "provider 'b': no value for the header api-key: set the environment variable NOT_SET" in str(error)
    assert error.exit_code == ExitCode.USAGE


@pytest.mark.usefixtures("home")
def test_a_run_is_resumed_with_more_providers_of_the_same_model_and_refused_with_another() -> None:
    first = begin(several({}))
    again = prepare(several({"weight": 3}, {"model": "m", "fallback": ["a"]}, {"weight": 0}), {})
    close(again)
    assert again.resumed
    assert again.manifest == first.manifest
    assert 'task.model: "m" -> ["m","n"]' in str(refused(several({}, {"model": "n"})))
    assert 'task.model: "m" -> "n"' in str(refused(several({"model": "n"})))
    moved = prepare(several({"model": "m"}, model="no longer asked"), {})
    close(moved)
    assert moved.resumed


def test_the_same_run_is_resumed_also_with_other_workers_and_limits(configure: CONFIGURE) -> None:
    first = begin(configure())
    again = prepare(
        configure(workers_count=7, provider_requests_per_minute=5, retry_attempts=1, client_transport="sdk"), {}
    )
    close(again)
    assert again.resumed
    assert again.manifest == first.manifest


# What is found out for the workers


@pytest.mark.usefixtures("home")
def test_what_was_left_to_be_found_out_is_settled_before_workers_hear_of_it() -> None:
    Path("in.csv").write_text("id,text\n1,one\n")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "why": {"type": "string"}}}
    Path("schema.json").write_text(json.dumps(schema))
    tree = {
        "input": {"path": "in.csv", "id": "id"},
        "task": {"model": "m", "prompt": "Say {text}", "schema": "schema.json"},
        "output": {"path": "out.parquet", "include": ["input"]},
        "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
    }
    prepared = prepare(configuration.parse(tree, "test.toml"), {})
    close(prepared)
    config = prepared.config
    assert (config.input.format, config.output.format, config.task.schema) == ("csv", "parquet", schema)
    assert prepared.steps[0].layout == Layout(
        input_columns=(Column("id"), Column("text")), fields=(Column("n", "int64"), Column("why")), vectors=False
    )


@pytest.mark.usefixtures("home")
def test_a_batch_file_says_which_api_it_is_for_and_is_answered_in_its_own_form() -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
    Path("in.jsonl").write_text(json.dumps(line) + "\n")
    tree = {
        "input": {"path": "in.jsonl"},
        "task": {},
        "output": {"path": "out.jsonl"},
        "provider": [{"base_url": "http://127.0.0.1:1/v1"}],
    }
    prepared = prepare(configuration.parse(tree, "test.toml"), {})
    close(prepared)
    config = prepared.config
    assert (config.input.format, config.task.api, config.output.format) == ("batch", "embeddings", "batch")


@pytest.mark.parametrize(
    ("budget", "priced"),
    [
        ({"budget_max_tokens": 1e6}, False),
        ({"budget_max_requests": 10}, False),
        ({"budget_max_usd": 5.0, "prices_m": PRICE}, True),
    ],
)
def test_a_cap_in_dollars_needs_a_price_and_the_others_do_not(
    configure: CONFIGURE, budget: dict[str, Any], priced: bool
) -> None:
    prepared = prepare(configure(**budget), {})
    close(prepared)
    assert prepared.steps[0].prices == [Price(1.0, 4.0, 1.0) if priced else None]


def test_the_deadline_of_a_run_counts_from_its_first_start(configure: CONFIGURE) -> None:
    config = configure(task_mode="auto", batch_deadline_s=3600)
    prepared = prepare(config, {})
    close(prepared)
    assert prepared.deadline == pytest.approx(time.time() + 3600, abs=5)
    prepared.manifest.created = "2026-01-01T00:00:00Z"
    manifests.save(prepared.directory.manifest, prepared.manifest)
    again = prepare(config, {})
    close(again)
    assert again.deadline == 1767225600 + 3600
    live = prepare(configure(batch_deadline_s=3600), {})
    close(live)
    assert live.deadline is None


# What is refused, with nothing written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_path": "absent.jsonl"}, "absent.jsonl: no such file"),
        ({"input_path": "folder"}, "folder: "),
        ({"input_path": "packed.jsonl"}, "packed.jsonl: the gzip file is damaged"),
        ({"task_prompt": "Say {wrong}"}, "no column 'wrong', which task.prompt names; the columns are id, text"),
        ({"task_prompt": "Say {"}, "task.prompt: "),
        ({"input_id": "wrong"}, "no column 'wrong', which input.id names"),
        ({"provider_api_key_env": "NO_KEY"}, "NO_KEY"),
        ({"provider_base_url": configuration.OPENAI_URL}, "OPENAI_API_KEY"),
        ({"output_path": "folder"}, "output.path: folder is a directory"),
        ({"output_errors": "folder"}, "output.errors: folder is a directory"),
        ({"output_path": "no/such/out.jsonl"}, "output.path: the directory no/such does not exist"),
        ({"output_errors": "no/errors.jsonl"}, "output.errors: the directory no does not exist"),
        ({"output_path": "theirs.jsonl"}, "output.path: theirs.jsonl exists and is not of this run"),
        ({"output_errors": "theirs.jsonl"}, "output.errors: theirs.jsonl exists and is not of this run"),
        ({"output_path": "theirs.jsonl/out.jsonl"}, "output.path: the directory theirs.jsonl does not exist"),
        ({"budget_max_usd": 5.0}, 'budget.max_usd: the price of model "m" at provider "default" is not known; add [pr'),
        (
            {"budget_max_usd": 5.0, "prices_m": PRICE, "task_per_row": {"model": "text"}},
            "budget.max_usd: the rows name their own models",
        ),
        ({"prices_m": {"input": 1.0}}, 'prices."m": output is missing'),
        ({"task_mode": "batch", "task_per_row": {"model": "text"}}, 'task.mode: "batch" needs one model'),
    ],
)
def test_a_run_that_cannot_start_writes_nothing(
    configure: CONFIGURE, home: Path, changes: dict[str, Any], message: str
) -> None:
    (home / "folder").mkdir()
    (home / "theirs.jsonl").write_bytes(b"not ours")
    (home / "packed.jsonl").write_bytes(b"\x1f\x8b\x08")
    error = refused(configure(**changes))
    assert message in str(error)
    assert error.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("kind", ["file", "foreign folder"])
def test_a_run_directory_that_is_something_else_is_left_alone(configure: CONFIGURE, home: Path, kind: str) -> None:
    place = home / "work"
    if kind == "file":
        place.write_bytes(b"mine")
    else:
        place.mkdir()
        (place / "thesis.tex").write_bytes(b"mine")
    assert refused(configure(checkpoint_dir="work")).exit_code == ExitCode.RUN_DIRECTORY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task_model": "n"}, 'task.model: "m" -> "n"'),
        ({"task_prompt": "Tell {text}"}, 'task.prompt: "Say {text}" -> "Tell {text}"'),
        ({"task_system": "s"}, 'task.system: null -> "s"'),
        ({"task_params": {"seed": 1}}, 'task.params: {} -> {"seed":1}'),
        ({"input_id": "text"}, 'input.id: "id" -> "text"'),
        ({"output_include": ["meta"]}, 'output.include: [] -> ["meta"]'),
    ],
)
def test_another_question_in_the_same_directory_is_refused_with_what_changed(
    configure: CONFIGURE, changes: dict[str, Any], said: str
) -> None:
    begin(configure())
    error = refused(configure(**changes))
    assert said in str(error)
    assert "name another checkpoint.dir" in str(error)
    assert error.exit_code == ExitCode.RUN_DIRECTORY


def test_an_input_of_another_size_is_refused(configure: CONFIGURE, home: Path) -> None:
    begin(configure())
    (home / "in.jsonl").write_bytes(ROWS[:-30])
    error = refused(configure())
    assert f"the input: {len(ROWS)} -> {len(ROWS) - 30} bytes" in str(error)
    assert error.exit_code == ExitCode.RUN_DIRECTORY


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":99,"rowmill_version":"9.9"}', b'{"format":1}'])
def test_a_manifest_that_cannot_be_read_is_refused(configure: CONFIGURE, home: Path, damage: bytes) -> None:
    begin(configure())
    (home / "out.jsonl.run/manifest.json").write_bytes(damage)
    assert refused(configure()).exit_code == ExitCode.RUN_DIRECTORY


def test_a_second_supervisor_is_told_who_the_first_is(configure: CONFIGURE) -> None:
    first = prepare(configure(), {})
    try:
        error = refused(configure())
        assert f"process {os.getpid()} on " in str(error)
        assert error.exit_code == ExitCode.RUN_DIRECTORY
    finally:
        close(first)
    close(prepare(configure(), {}))


def test_workers_of_a_killed_supervisor_are_waited_for_and_then_refused(
    configure: CONFIGURE, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure()
    begin(config)
    monkeypatch.setattr(preparation, "ORPHANS_S", 0.05)
    code = (
        "import sys; from pathlib import Path; from rowmill.store.run_directory import RunDirectory; "
        "RunDirectory(Path(sys.argv[1])).hold_worker_lock(); print('held', flush=True); sys.stdin.read()"
    )
    root = Path(rowmill.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, "-c", code, str(config.run_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as orphan:
        assert orphan.stdout is not None
        assert orphan.stdout.readline() == b"held\n"
        with pytest.raises(RunDirectoryError, match=r"workers of an earlier run in .* were still at work"):
            prepare(config, {})
        assert RunDirectory(config.run_dir).holder() is None, "the refused start has given its lock back"
    close(prepare(config, {}))


# The plan of an earlier session


def saved_plan() -> Any:
    return manifests.load_plan(Path("out.jsonl.run/plan"))


def test_the_plan_of_an_unchanged_input_is_used_without_reading_it_again(
    configure: CONFIGURE, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(configure())

    def read_again(*_: object, **__: object) -> None:
        raise AssertionError("the input was read again")

    monkeypatch.setattr(jsonl, "plan_blocks", read_again)
    prepared = prepare(configure(), {})
    close(prepared)
    assert prepared.shards == saved_plan()
    assert prepared.shards


def test_an_input_that_was_only_touched_is_compared_and_accepted(configure: CONFIGURE, home: Path) -> None:
    before = begin(configure()).manifest
    os.utime(home / "in.jsonl", ns=(1, 1))
    prepared = prepare(configure(), {})
    try:
        assert prepared.shards == saved_plan()
        assert [file.mtime_ns for file in prepared.manifest.input] == [1]
        assert prepared.manifest.run_id == before.run_id
    finally:
        close(prepared)
    assert manifests.load(Path("out.jsonl.run/manifest.json")) == prepared.manifest, "compared once, not at every start"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"row 7", b"Row 7"),
        lambda data: data[:-1] + b" ",
        lambda data: data[:500].replace(b"\n", b" ") + data[500:],
    ],
)
def test_an_input_of_the_same_size_with_other_bytes_is_refused_by_its_rows(
    configure: CONFIGURE, home: Path, change: Callable[[bytes], bytes]
) -> None:
    begin(configure())
    changed = change(ROWS)
    assert len(changed) == len(ROWS)
    (home / "in.jsonl").write_bytes(changed)
    os.utime(home / "in.jsonl", ns=(1, 1))
    before = {name: found for name, found in listing(home).items() if "lock" not in name}
    with pytest.raises(RunDirectoryError, match=r"in\.jsonl has changed: rows 0 to 49 are not those"):
        prepare(configure(), {})
    assert {name: found for name, found in listing(home).items() if "lock" not in name} == before
    (home / "in.jsonl").write_bytes(ROWS)
    close(prepare(configure(), {}))  # the lock was given back, and putting the input back is enough


def test_rows_that_were_appended_are_planned_behind_the_others(configure: CONFIGURE, home: Path) -> None:
    begin(configure())
    before = saved_plan()
    for count in (3, 1):
        with (home / "in.jsonl").open("ab") as file:
            file.write(b'{"text":"x"}\n' * count)
        prepared = prepare(configure(), {})
        close(prepared)
        assert prepared.new_rows == count
        assert prepared.shards == saved_plan()
        assert prepared.shards is not None
        assert prepared.shards[: len(before)] == before
        before = prepared.shards
    assert sum(shard.rows for shard in before) == 54
    again = prepare(configure(), {})
    close(again)
    assert (again.new_rows, again.shards) == (0, before)


def test_a_spool_that_was_lost_is_made_again_and_compared_with_the_plan(configure: CONFIGURE, home: Path) -> None:
    (home / "in.jsonl.gz").write_bytes(gzip.compress(ROWS))
    config = configure(input_path="in.jsonl.gz")
    spool = begin(config).directory.spool / "000000.jsonl"
    assert spool.read_bytes() == ROWS
    spool.unlink()
    prepared = prepare(config, {})
    close(prepared)
    assert prepared.shards == saved_plan()
    assert spool.read_bytes() == ROWS


def test_a_first_session_that_was_killed_while_it_counted_leaves_the_plan_to_be_made(
    configure: CONFIGURE, home: Path
) -> None:
    begin(configure(), planned=False)
    os.utime(home / "in.jsonl", ns=(1, 1))
    prepared = prepare(configure(), {})
    close(prepared)
    assert prepared.resumed
    assert prepared.shards is None


# A run that has finished


@pytest.fixture
def finished(configure: CONFIGURE, home: Path) -> Config:
    """Leave everything as a finished run with a failed row leaves it."""
    config = configure()
    prepared = begin(config)
    (home / "out.jsonl").write_bytes(b"lines\n")
    (home / "out.errors.jsonl").write_bytes(b"failed\n")
    prepared.manifest.finished = Finished(
        str(home.resolve() / "out.jsonl"), 6, str(home.resolve() / "out.errors.jsonl"), 7, "2026-01-02T03:04:05Z"
    )
    manifests.save(prepared.directory.manifest, prepared.manifest)
    return config


def prepared_again(config: Config) -> Prepared:
    prepared = prepare(config, {})
    close(prepared)
    return prepared


def test_a_finished_run_with_its_output_in_place_is_known(finished: Config) -> None:
    prepared = prepared_again(finished)
    assert already_finished(finished, prepared.manifest)
    assert prepared.resumed


def test_an_output_that_was_moved_away_is_to_be_written_again(finished: Config, home: Path) -> None:
    (home / "out.jsonl").rename(home / "kept.jsonl")
    assert not already_finished(finished, prepared_again(finished).manifest)
    (home / "out.errors.jsonl").unlink()
    assert not already_finished(finished, prepared_again(finished).manifest)


@pytest.mark.parametrize("content", [b"", b"lines\nand a note of mine\n"])
def test_an_output_that_was_changed_is_not_written_over(finished: Config, home: Path, content: bytes) -> None:
    (home / "out.jsonl").write_bytes(content)
    assert "changed since the run finished; move it away" in str(refused(finished))


def test_another_output_path_of_a_finished_run_is_written_unless_something_is_there(
    finished: Config, configure: CONFIGURE, home: Path
) -> None:
    other = configure(output_path="other.jsonl", checkpoint_dir="out.jsonl.run")
    assert not already_finished(other, prepared_again(other).manifest)
    (home / "other.jsonl").write_bytes(b"theirs")
    assert "is not of this run" in str(refused(other))


def test_the_same_output_by_another_name_is_the_same(finished: Config, configure: CONFIGURE, home: Path) -> None:
    (home / "link.jsonl").symlink_to("out.jsonl")
    linked = configure(output_path="link.jsonl", checkpoint_dir="out.jsonl.run", output_errors="out.errors.jsonl")
    assert already_finished(linked, prepared_again(linked).manifest)


def test_a_finished_run_whose_input_has_grown_is_one_that_goes_on(finished: Config, home: Path) -> None:
    with (home / "in.jsonl").open("ab") as file:
        file.write(b'{"text":"x"}\n')
    assert prepared_again(finished).new_rows == 1
    again = prepared_again(finished)  # the session was killed: it is known all the same
    assert again.new_rows == 0
    assert again.manifest.finished is not None
    assert (again.manifest.finished.grown, again.manifest.finished.replaces) == (True, 6)
    assert not already_finished(finished, again.manifest)
    (home / "out.jsonl").write_bytes(b"lines and mine\n")
    assert "changed since the run finished" in str(refused(finished))


ALIKE = "the prompt names no column: every row gets the same; name a column as {id}"
MESSAGE = {"role": "user", "content": "Translate"}


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"prompt": "Translate"}, ALIKE),
        ({"prompt": "{{text}}", "system": "Briefly"}, ALIKE),
        ({"prompt": "Translate", "template": "jinja"}, ALIKE),
        ({"prompt": "Translate", "rows_per_request": 4, "schema": {"type": "object"}}, ALIKE),
        ({"prompt": None, "messages": [MESSAGE]}, ALIKE.replace("prompt names", "messages name")),
        ({"prompt": "Say", "api": "embeddings"}, ALIKE),
        ({"prompt": "Translate", "system": "{{ text }}", "template": "jinja"}, None),
        ({"prompt": "{id}"}, None),  # which the rows' ids are, too
        ({"prompt": "{{ row }}", "template": "jinja"}, None),
        ({"prompt": "Translate", "images": ["text"]}, None),
        ({"prompt": "Translate", "per_row": {"seed": "id"}}, None),
        ({"prompt": None, "messages": "text"}, None),
    ],
)
def test_a_question_that_is_the_same_for_every_row_is_told(
    configure: CONFIGURE, task: dict[str, Any], said: str | None
) -> None:
    changes = {f"task_{key}": value for key, value in ({"prompt": "{text}"} | task).items() if value is not None}
    if task["prompt"] is None:
        changes["task_prompt"] = None
    config = configure(**changes)
    found = inputs.find(config.input)
    settled = preparation.settled(config, found)
    checked = checked_tasks(settled, found)
    assert preparation.doubts(settled, found, checked) == ([] if said is None else [said])


def test_plan_and_check_tell_it(configure: CONFIGURE) -> None:
    config = configure(task_prompt="Translate")
    assert plan(config).notices == [ALIKE]
    assert check(config, {}, ask=False).notices == [ALIKE]
