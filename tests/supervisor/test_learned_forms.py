"""How providers want to be asked: who is told of it, and what is left of it for the next session."""

from pathlib import Path
from typing import Any

import pytest

from rowmill.core import config as configuration
from rowmill.core.config import Config, steps
from rowmill.core.request_form import RequestForm
from rowmill.core.rows import Layout
from rowmill.ipc import messages
from rowmill.ipc.messages import Formed, UseForm
from rowmill.store.run_directory import RunDirectory
from rowmill.supervisor.learned_forms import LearnedForms
from rowmill.supervisor.prepared import PreparedStep
from tests.supervisor.test_providers import HIRE, Worker, hire

__all__ = ["hire"]
STREAM = RequestForm(stream=True)


def config(*, rows_name_models: bool = False, named: tuple[str, ...] = (), **provider: Any) -> Config:
    tables = [{"name": "main", "base_url": "http://127.0.0.1:1/v1", **provider}, {"name": "other"}]
    document = {
        "input": {"path": "in.jsonl"}, "output": {"path": "o.jsonl"}, "provider": tables,
        "task": {
            "model": "m", "prompt": "{a}", "schema": {"type": "object"},
            "per_row": {"model": "model"} if rows_name_models else {},
        },
        "step": [{"name": name, "provider": name} for name in named],
    }  # fmt: skip
    return configuration.parse(document, "test")


def opened(folder: Path, log: list[str], **more: Any) -> LearnedForms:
    whole = config(**more)
    prepared = [
        PreparedStep(
            config=steps.of_step(whole, number),
            providers=steps.providers_of(whole, number),
            endpoints=[],
            prices=[],
            layout=Layout(),
            worker=steps.of_run(whole, number),
        )
        for number in range(steps.count(whole))
    ]
    return LearnedForms(prepared, RunDirectory(folder), log.append)


def told(worker: Worker) -> list[UseForm]:
    found = []
    while worker.pipe.poll(0):
        message = messages.receive_in_worker(worker.pipe)
        assert isinstance(message, UseForm)
        found.append(message)
    return found


def test_others_are_told_and_the_next_session_knows(tmp_path: Path, hire: HIRE) -> None:
    log: list[str] = []
    forms = opened(tmp_path, log)
    assert (forms.known(0), forms.notices) == ([], ())
    workers = [hire(number) for number in range(3)]
    members = [worker.member for worker in workers]
    for member in members[:2]:
        member.become("working")
    forms.take(members[0], Formed(0, STREAM, "Stream must be set to true"), members)
    assert [told(worker) for worker in workers] == [[], [UseForm(0, STREAM)], []]  # the third is to be set up
    forms.take(members[1], Formed(0, STREAM, "the same"), members)  # it had found it out as well
    tool = RequestForm(schema="tool")
    forms.take(members[1], Formed(0, tool, "no such format"), members)
    both = RequestForm(stream=True, schema="tool")
    assert told(workers[0])[-1] == told(workers[1])[-1] == UseForm(0, both)
    assert forms.known(0) == [UseForm(0, both)]
    assert log == [
        "provider main: is asked as streams from now on, for it has said: Stream must be set to true",
        (
            "provider main: is asked as streams and for the call of a tool that has the schema from now on, for it "
            "has said: no such format"
        ),
    ]
    assert forms.notices == (log[1],)
    again: list[str] = []
    assert opened(tmp_path, again).known(0) == [UseForm(0, both)]
    (line,) = again
    assert line.endswith("as an earlier session has found it")


def test_what_was_learned_of_another_server_or_model_is_not_taken(tmp_path: Path, hire: HIRE) -> None:
    forms = opened(tmp_path, [])
    forms.take(hire(0).member, Formed(0, STREAM, "so"), [])
    for other in ({"base_url": "http://127.0.0.1:2/v1"}, {"model": "n"}):
        assert opened(tmp_path, [], **other).known(0) == []
    assert opened(tmp_path, [], stream=True).known(0) == [UseForm(0, STREAM)]


def test_what_the_configuration_settles_by_now_is_asked_so(tmp_path: Path, hire: HIRE) -> None:
    forms = opened(tmp_path, [])
    forms.take(hire(0).member, Formed(0, STREAM, "so"), [])
    assert opened(tmp_path, [], stream=False).known(0) == []


def test_of_models_that_rows_name_each_is_told_by_itself(tmp_path: Path, hire: HIRE) -> None:
    log: list[str] = []
    forms = opened(tmp_path, log, rows_name_models=True)
    member = hire(0).member
    other = hire(1)
    other.member.become("working")
    for number in range(7):
        forms.take(member, Formed(0, STREAM, "so", f"m{number}"), [other.member])
    forms.take(member, Formed(0, RequestForm(schema="tool"), "so", "m0"), [])
    assert told(other) == [UseForm(0, STREAM, f"m{number}") for number in range(7)]
    assert log[0] == "provider main, model m0: is asked as streams from now on, for it has said: so"
    assert forms.notices[5:] == ("and 2 more models that are asked in a way of their own",)
    kept = opened(tmp_path, [], rows_name_models=True)
    assert kept.known(0) == forms.known(0)
    assert kept.known(0)[:2] == [UseForm(0, RequestForm(stream=True, schema="tool"), "m0"), UseForm(0, STREAM, "m1")]


def test_a_key_in_a_url_is_not_written_down(tmp_path: Path, hire: HIRE) -> None:
    url = {"base_url": "http://127.0.0.1:1/v1?key=sk-secret"}
    opened(tmp_path, [], **url).take(hire(0).member, Formed(0, STREAM, "so"), [])
    assert b"sk-secret" not in (tmp_path / "forms.json").read_bytes()
    assert opened(tmp_path, [], **url).known(0) == [UseForm(0, STREAM)]


def test_each_step_has_forms_of_its_own(tmp_path: Path, hire: HIRE) -> None:
    """A worker knows the providers of its step by numbers of their own, and so it is told."""
    log: list[str] = []
    forms = opened(tmp_path, log, named=("main", "other"))
    workers = [hire(number) for number in range(4)]
    for number, worker in enumerate(workers):
        worker.member.step = number % 2
        worker.member.become("working")
    members = [worker.member for worker in workers]
    forms.take(members[1], Formed(0, STREAM, "so"), members)
    assert [told(worker) for worker in workers] == [[], [], [], [UseForm(0, STREAM)]]
    assert (forms.known(0), forms.known(1)) == ([], [UseForm(0, STREAM)])
    assert log == ["provider other in step other: is asked as streams from now on, for it has said: so"]
    kept = opened(tmp_path, [], named=("main", "other"))
    assert (kept.known(0), kept.known(1)) == ([], [UseForm(0, STREAM)])
    assert opened(tmp_path, []).known(0) == []  # of another run: there are no steps


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"provider":1}]', b"\xff"])
def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "forms.json").write_bytes(content)
    assert opened(tmp_path, []).known(0) == []
