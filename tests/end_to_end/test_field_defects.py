"""Defects that rows meet, injected into the real worker: a row fails, the run goes on; or every row's, and it stops."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Place, Server

_INJECTED = """
import sys
import importlib.abc

class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "rowmill.worker.live.process":
            return None
        sys.meta_path.remove(self)
        from rowmill.{module} import {holder} as holder
        real = holder.{function}
        def called(self, *arguments, **named):
            found = [bytes(each.line) if hasattr(each, "line") else each for each in arguments]
            if any(isinstance(each, bytes) and {marks}(mark in each for mark in {bad}) for each in found):
                raise {error}
            return real(self, *arguments, **named)
        holder.{function} = called
        return None

sys.meta_path.insert(0, _Finder())
"""


def inject(place: Place, folder: Path, at: str, error: str, *, every: bool = False) -> None:
    """Have a method of the worker, `module:class.function`, raise for rows 3 and 77, or for every row."""
    module, _, name = at.partition(":")
    holder, _, function = name.partition(".")
    folder.mkdir()
    bad = [b"row 000003", b"row 000077"]
    text = _INJECTED.format(
        module=module, holder=holder, function=function, error=error, bad=bad, marks="True or any" if every else "any"
    )
    (folder / "sitecustomize.py").write_text(text)
    place.environ["PYTHONPATH"] = f"{folder}:{place.environ['PYTHONPATH']}"


PLACES = {
    "build": ("tasks.plain:PlainTask.build", "RecursionError('too deep')"),
    "record": ("worker.outcome_writer:OutcomeWriter.result", "KeyError('usage')"),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_defect_that_two_rows_meet_costs_two_rows(
    place: Place, server: Callable[..., Server], tmp_path: Path, name: str
) -> None:
    witness = server()
    at, error = PLACES[name]
    place.configure(witness.url)
    place.write_rows(150)
    inject(place, tmp_path / "injected", at, error)
    done = place.run()
    assert done.code == 1, done.err
    assert [(row["index"], row["class"]) for row in place.failed] == [(3, "internal_error"), (77, "internal_error")]
    assert "Traceback" not in done.err
    assert "died" not in place.log
    assert place.log.count("by way of") <= 2, "once a worker"
    assert sum(witness.counts.values()) <= 150, "nobody was asked twice"


def test_a_row_that_kills_its_worker_is_given_up_and_nothing_else_is_lost(
    place: Place, server: Callable[..., Server], tmp_path: Path
) -> None:
    witness = server()
    place.configure(witness.url)
    place.write_rows(150)
    inject(place, tmp_path / "injected", "tasks.plain:PlainTask.build", "__import__('os')._exit(9)")
    done = place.run()
    assert done.code == 1, done.err
    assert [(row["index"], row["class"]) for row in place.failed] == [(3, "poison_row"), (77, "poison_row")]
    assert len(place.lines) == 150
    assert set(witness.counts) == set(range(150)) - {3, 77}
    session = place.report["sessions"][0]
    assert session["deaths"] <= 6, "three each"
    again = sum(witness.counts.values()) - 148
    assert again <= session["billed_twice_max"], "what was in flight, or not on disk yet"


def test_whatever_a_template_raises_for_a_row_is_that_rows_failure(place: Place, server: Callable[..., Server]) -> None:
    witness = server()
    place.configure(witness.url)
    bad = {
        1: "{{ x.y.z }}",
        2: "{{ 1 // 0 }}",
        3: "{{ [1, 'a']|sum }}",
        4: "{{ m(m) }}",
        5: "{{ 'x' * 10 ** 10 }}",
        6: "{{ row['missing'] }}",
        7: "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        8: "{{ text.__class__ }}",
        9: "{{ 'x'|tojson(indent='a') }}",
        10: "{{ range(10 ** 9)|list }}",
    }
    cases = "".join(f"{{% elif n == {n} %}}{text}" for n, text in bad.items())
    macro = "{% macro m(f) %}{{ f(f) }}{% endmacro %}"
    prompt = f"{macro}Summarise in one line:\n{{{{ text }}}}{{% if n == 0 %}}{cases}{{% endif %}}"
    place.write_lines(json.dumps({"id": n, "n": n, "x": 1, "text": f"row {n:06d}"}).encode() + b"\n" for n in range(60))
    done = place.run("--set", "task.template=jinja", "--set", f"task.prompt={prompt}")
    assert done.code == 1, done.err
    assert {row["index"]: row["class"] for row in place.failed} == dict.fromkeys(bad, "invalid_row")
    assert set(witness.counts) == set(range(60)) - set(bad)
    assert "Traceback" not in done.err
    assert place.report["sessions"][0]["deaths"] == 0
