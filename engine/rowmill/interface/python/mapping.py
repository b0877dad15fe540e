"""The work of a `rowmill.map`: rows of whatever kind -> a run over them -> the answers, as the rows came."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.sections import ModelSchema
from rowmill.core.errors import AnotherRun, ConfigError, ExitCode, InputError, RowmillError, RunDirectoryError
from rowmill.core.interrupts import of_this_thread
from rowmill.core.reports import RunReport
from rowmill.core.rows import Column
from rowmill.interface.python import answer_columns, asked_config, awaited, frames
from rowmill.interface.python.answers import Report, Result, ResultList, with_report
from rowmill.interface.python.chosen_rows import Chosen
from rowmill.interface.python.instances import REFUSED, Instances
from rowmill.interface.python.place import MapPlace, map_place
from rowmill.interface.python.ray_rows import RayRows, is_dataset
from rowmill.interface.python.row_costs import RowCosts
from rowmill.interface.python.row_lines import lines
from rowmill.interface.python.running import raise_for_end, shown
from rowmill.interface.ui.report_page import keep_page
from rowmill.interface.ui.screen import ProgressDisplay
from rowmill.runs.fresh import set_aside
from rowmill.runs.session import run as run_config
from rowmill.tasks import models
from rowmill.tasks import schema as schemas
from rowmill.tasks.factory import open_task
from rowmill.tasks.readers import choices_asked

_OF_CONFIG = re.compile(r"checkpoint\.dir( and output\.path)?|by rowmill run$")

AsyncRows = Callable[[Any, int | None], Iterator[Any]]


def map_rows(rows: Any, schema: Any, options: Mapping[str, Any], go_through: AsyncRows = awaited.alone) -> Any:
    """Do what `rowmill.map` says. go_through: how rows of an async iterable are had, so many at most."""
    asked_config.check_call(options)
    chosen = Chosen(options.get("limit"), options.get("sample"))
    if isinstance(rows, str) and os.path.isfile(rows):  # noqa: PTH113 - as the text stands there
        raise InputError(f"rowmill.map: for the rows of a file pass pathlib.Path({rows!r})")
    file = rows if isinstance(rows, os.PathLike) else None
    dataset = table = None
    if file is None and is_dataset(rows):
        dataset = RayRows(chosen.of_dataset(rows))
    elif file is None and not awaited.is_async(rows) and (found := frames.source(rows)) is not None:
        table = chosen.of_table(found)
    given: frames.Rows | None = dataset or table
    prefix, include = options.get("prefix") or "", tuple(options.get("include") or ())
    with map_place(chosen.directory(options.get("run_dir"))) as place:
        config = asked_config.of_map(options, schema, place, file)
        task = schemas.resolved(config.task)
        config = msgspec.structs.replace(config, task=task)
        several = choices_asked(task) > 1
        instances = _instances(task.schema, schema, several=several)
        # A reply of several choices is a list, whose members are no columns.
        fields: tuple[Column, ...] = ()
        if instances is None and task.reply_schema is not None and not several:
            fields = schemas.fields(task.reply_schema)
        if given is not None:
            answer_columns.check_names(given.columns, fields, prefix, include, instances)
        if file is None:
            wanted = open_task(config.task, config.input).columns
            if given is not None:
                each: Iterable[Any] = given.rows(wanted)
            else:
                each = chosen.of_rows(go_through(rows, chosen.limit) if awaited.is_async(rows) else rows)
            write = partial(_written_anew, config, place) if options.get("fresh") else place.write
            there = write(lines(_interrupted(each), wanted)) > 0
        else:
            if options.get("fresh"):
                _set_aside(config, place, place)
            place.make()
            there = True
        report = _ask(config, place, options, chosen if file is not None else Chosen()) if there else None
        with _kept_until_made(place) if there else nullcontext():
            results = _results(config, place, report, instances, priced="cost" in include)
            columns = partial(answer_columns.answers, fields=fields, prefix=prefix, parts=include, instances=instances)
            made: Any
            if dataset is not None:
                made = dataset.with_answers(results, columns)
            elif table is not None:
                made = table.joined(columns(list(results)))
            else:
                made = list(chosen.numbered(results))
            _end_if_interrupted(place)
            report = _with_refused(report, instances)
            return ResultList(made, report) if given is None else with_report(made, report)


def _written_anew(config: Config, place: MapPlace, rows: Iterator[bytes]) -> int:
    """Write the rows of a new run, and return how many they are; what is here goes aside once they are whole."""
    with place.beside() as new:
        if (count := new.write(rows)) > 0:
            asked = msgspec.structs.replace(config.input, path=str(new.rows))
            _set_aside(msgspec.structs.replace(config, input=asked), place, new)
            place.take(new.rows)
    return count


def _set_aside(config: Config, place: MapPlace, rows: MapPlace) -> None:
    """Move what is there aside, as `kept.old`, unless something speaks against a new run. rows: where its rows are."""
    try:
        place.move_aside(partial(set_aside, config, os.environ, place.path))
    except RowmillError as error:
        raise _in_words_of_python(error, rows) from None


def _instances(schema: Any, given: Any, *, several: bool) -> Instances | None:
    """Return what makes instances of the type, the very one that was given; None where the schema is no type's."""
    if not isinstance(schema, ModelSchema):
        return None
    kind = given if asked_config.is_type(given) else models.kind_of(schema)
    return Instances(kind, schema, several=several)


def _results(
    config: Config, place: MapPlace, report: RunReport | None, instances: Instances | None, *, priced: bool
) -> Iterator[Result[Any]]:
    if report is None:
        return iter(())
    results = place.each(vectors=config.task.api == "embeddings", raw=instances is not None)
    if instances is not None:
        results = map(instances.of, results)
    return RowCosts(config, place, report).each(results) if priced else results


def _ask(config: Config, place: MapPlace, options: Mapping[str, Any], chosen: "Chosen") -> Report:
    """Run what a `map` asks. A type that no worker can have is heard when the results come back."""
    schema = config.task.schema
    with shown(options.get("progress")) as display:
        try:
            report = _run(config, place, options, chosen, display)
        except ConfigError as error:
            if not isinstance(schema, ModelSchema) or models.NOT_LOADED not in str(error):
                raise
            alone = asked_config.with_model(config, msgspec.structs.replace(schema, code=b""))
            report = _run(alone, place, options, chosen, display)
    if not place.kept:  # the files are gone when the caller reads this
        report = msgspec.structs.replace(report, output="what rowmill.map returned", errors=None)
    return Report.of(report)


def _run(
    config: Config, place: MapPlace, options: Mapping[str, Any], chosen: "Chosen", display: ProgressDisplay
) -> RunReport:
    schema = config.task.schema
    if isinstance(schema, ModelSchema) and schema.code == b"":
        display.log(
            f"schema: {schema.name} cannot be taken to the workers, which hold replies against its JSON Schema alone; "
            "what its validators refuse fails in the end, and is not asked again"
        )
    place.holds_answers = True  # whatever ends this now: somebody may have paid
    try:
        report, session = run_config(
            config, os.environ, display, retry=options.get("retry_failed", False),
            limit=chosen.limit, sample=chosen.sample,
        )  # fmt: skip
    except RowmillError as error:
        place.holds_answers = place.has_outcomes  # nearly all are raised before the start; a defect is not
        if place.holds_answers and not place.kept:
            error.add_note(f"rowmill.map: what is done is kept; {_again(place)} goes on from there")
        raise _in_words_of_python(error, place) from None
    except Exception as error:  # of a signal handler of the program's, as a timeout
        error.add_note(f"rowmill.map: what is done is kept; {_again(place)} goes on from there")
        raise
    if session is not None and (place.kept or not report.finished):
        keep_page(config)
    place.holds_answers = not report.finished and report.totals.rows > 0
    again = _again(place) if place.holds_answers or place.kept else "the same call"
    if session is not None and session.exit_code in {ExitCode.OK, ExitCode.ROWS_FAILED}:
        again = "the same call without retry_failed"  # nothing stopped it: what it left are rows that did not fail
    raise_for_end(report, session, again)
    return report


def _again(place: MapPlace) -> str:
    return "the same call" if place.kept else f"the same call with run_dir={str(place.path)!r}"


def _in_words_of_python(error: RowmillError, place: MapPlace) -> RowmillError:
    """Return the error, which is told in the words of a configuration, with what the call was given."""
    said = str(error).replace(str(place.rows), "rowmill.map")  # a file that nobody knows of
    said = said.replace("set input.path to the file", "pass the path of the file")
    if isinstance(error, RunDirectoryError):
        said = _OF_CONFIG.sub(lambda found: "without retry_failed" if found[0].startswith("by") else "run_dir", said)
    error.args = (f"{said}, or fresh=True to keep what is there aside" if isinstance(error, AnotherRun) else said,)
    return error


def _with_refused(report: Report | None, instances: Instances | None) -> Report | None:
    """Return the report with those rows failed, too, that are answers to the run and were refused here."""
    if report is None or instances is None or not instances.refused:
        return report
    totals = msgspec.structs.replace(report.totals, failed=report.totals.failed + instances.refused)
    failures = {**report.failures, REFUSED: report.failures.get(REFUSED, 0) + instances.refused}
    return msgspec.structs.replace(report, totals=totals, failures=failures)


def _interrupted(rows: Iterable[Any]) -> Iterable[Any]:
    """Go through the rows, and end where the call is cancelled meanwhile."""
    interrupts = of_this_thread()
    if interrupts is None:
        return rows
    return (row for row in rows if interrupts.check() is None)  # type: ignore[func-returns-value]


@contextmanager
def _kept_until_made(place: MapPlace) -> Iterator[None]:
    """Keep answers that nobody is given in the end: an interrupt, memory or whatever else came in between."""
    place.holds_answers = True
    try:
        yield
    except BaseException as error:
        if not place.kept and place.all_kept not in str(error):
            error.add_note(f"rowmill.map: {place.all_kept}")
        raise
    place.holds_answers = False


def _end_if_interrupted(place: MapPlace) -> None:
    """End a call that was cancelled when all answers were there already: nobody is given them."""
    interrupts = of_this_thread()
    if interrupts is not None and interrupts.sent and not place.kept:
        raise KeyboardInterrupt(place.all_kept)
