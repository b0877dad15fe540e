"""The `rowmill` command: reads the command line, shows what happens, exits. The only part that prints or exits.

Every error ends here as one line, with the exit code of its kind.

Data goes to stdout, everything else to stderr. Modules are imported where a command needs them: `--help` should not
wait.
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from rowmill.core.errors import ExitCode, RowmillError
from rowmill.core.plain_text import one_line
from rowmill.interface.cli import shown, streams
from rowmill.interface.cli.arguments import parser
from rowmill.interface.cli.configured import again, config_of, environ_of, run_of

if TYPE_CHECKING:
    from rowmill.core.config import Config
    from rowmill.core.reports import RunReport, SessionReport
    from rowmill.runs.plan.trials import Trial

_COLLECTED = (10_000, 20, 20)  # as the processes of a run have it: a start makes many objects, which nearly all stay


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    gc.set_threshold(*_COLLECTED)
    streams.make_whole()
    try:
        status = _status(arguments)
    except KeyboardInterrupt:
        status = ExitCode.INTERRUPTED
    streams.end(status)


def _status(arguments: Sequence[str] | None) -> int:
    commands = {
        "run": _run,
        "map": _map,
        "retry": _retry,
        "check": _check,
        "plan": _plan,
        "cancel": _cancel,
        "status": _stand,
        "show": _show,
        "report": _report,
        "compare": _compare,
        "dedup": _dedup,
        "runs": _runs,
        "clean": _clean,
        "init": _init,
        "simulate": _simulate,
        "completion": _completion,
    }
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        if not words:
            streams.say(parser().format_help().rstrip())
            return ExitCode.USAGE
        if words[0] == "help":
            words = [*words[1:2], "--help"]
        options = parser().parse_args(words)
        options.words = words
        with ExitStack() as options.afterwards:
            return commands[options.command](options)
    except RowmillError as error:
        streams.complain(str(error))
        for line in error.excerpt:
            streams.say(one_line(line))
        return error.exit_code
    except SystemExit as asked:  # argparse has told its help, or what is wrong
        return asked.code if isinstance(asked.code, int) else ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the last edge: nothing passes as a traceback
        from rowmill.core.defects import told

        failure = told(error)
        streams.complain(str(failure))
        return failure.exit_code


def _run(options: argparse.Namespace) -> int:
    if options.limit is not None or options.sample is not None:
        return _trial(options)
    config = config_of(options)
    if options.fresh:
        shown.fresh(options, config)
    with shown.another_run(again(options)):
        report, session = _at_work(options, config, retry=False)
    page = shown.kept_page(config, session)
    if session is None:
        streams.complain(
            f"this run has finished: {report.output} is complete ({report.totals.rows} rows, "
            f"{report.totals.failed} failed). For a new one: {again(options).fresh}"
            f"{f'; to ask again for the failed rows: {again(options).retry}' if report.totals.failed else ''}"
        )
    return shown.ended(options, report, session, again(options), page)


def _map(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.map_command import map_rows

    return map_rows(options)


def _retry(options: argparse.Namespace) -> int:
    if options.limit is not None or options.sample is not None:
        return _trial(options, retry=True)
    config = config_of(options)
    report, session = _at_work(options, config, retry=True)
    if session is None:
        streams.complain(f"no row of this run has failed: {report.output} is complete ({report.totals.rows} rows).")
    return shown.ended(options, report, session, again(options), shown.kept_page(config, session))


def _trial(options: argparse.Namespace, *, retry: bool = False) -> int:
    from rowmill.interface.ui import arranged
    from rowmill.runs.trial import run_trial

    config = config_of(options)
    progress = shown.display(options)
    try:
        own, report, session = run_trial(
            config,
            environ_of(options, config),
            progress,
            limit=options.limit,
            sample=options.sample,
            salvage=options.salvage,
            retry=retry,
        )
    finally:
        progress.close()
    status = shown.ended(options, report, session, again(options), shown.kept_page(own, session))
    rows = f"the first {options.limit:,}" if options.limit is not None else f"{options.sample:,} random"
    if options.quiet:
        return status
    if session is not None and not options.json:
        shown.first_replies(own)
    told = arranged.line(
        "trial",
        one_line(
            f"{rows} rows{'' if session else ', asked before'}: in {own.output.path} and {own.run_dir}; "
            f"{config.output.path} is not touched"
        ),
    )
    streams.say(arranged.within(told, streams.width_of(sys.stderr)))
    return status


def _plan(options: argparse.Namespace) -> int:
    from rowmill.interface.ui.plan_text import text, to_json
    from rowmill.runs.plan import plan

    config = config_of(options)
    trial = None
    if options.sample_live is not None:
        ended = _live_sample(options, config)
        if isinstance(ended, int):
            return ended
        trial = ended
    planned = plan(config, trial)
    return streams.out(to_json(planned) if options.json else f"{text(planned)}\n")


def _check(options: argparse.Namespace) -> int:
    from rowmill.interface.ui.check_text import text
    from rowmill.runs.check import check

    config = config_of(options)
    with shown.another_run(again(options)):
        checked = check(config, environ_of(options, config), ask=not options.no_request)
    if options.json:
        import msgspec

        streams.out(msgspec.json.format(msgspec.json.encode(checked), indent=2) + b"\n")
    elif not options.quiet or not checked.ok:
        streams.out(f"{text(checked)}\n")
    if checked.ok:
        return ExitCode.OK
    return ExitCode.USAGE if checked.row is None else ExitCode.PROVIDER


def _live_sample(options: argparse.Namespace, config: "Config") -> "Trial | int":
    """Ask some rows for real. Returns the exit code where that did not come to its end."""
    from rowmill.interface.ui.report import summary
    from rowmill.runs.plan.trials import live, trial_of
    from rowmill.runs.trial import run_trial

    rows = options.sample_live
    progress = shown.display(options)
    try:
        own, report, session = run_trial(live(config), environ_of(options, config), progress, sample=rows)
    finally:
        progress.close()
    if session is not None:
        if not options.quiet:
            streams.say(summary(report, session))
        if not report.finished:
            return session.exit_code
    return trial_of(own, report, rows, again=session is None)


def _cancel(options: argparse.Namespace) -> int:
    from rowmill.runs.cancel import cancel

    config = config_of(options)
    return cancel(config, environ_of(options, config), (lambda _: None) if options.quiet else streams.say)


def _at_work(options: argparse.Namespace, config: "Config", *, retry: bool) -> "tuple[RunReport, SessionReport | None]":
    from rowmill.runs.session import run

    progress = shown.display(options)
    try:
        return run(
            config,
            environ_of(options, config),
            progress,
            salvage=options.salvage,
            retry=retry,
            afterwards=options.afterwards,
        )
    finally:
        progress.close()


def _stand(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.watching import status

    return status(options)


def _show(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.show_command import show

    return show(options)


def _report(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.report_command import report

    return report(options)


def _compare(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.compare_command import compare

    return compare(options)


def _dedup(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.dedup_command import dedup

    return dedup(options)


def _runs(options: argparse.Namespace) -> int:
    import msgspec

    from rowmill.interface.ui.runs_text import table
    from rowmill.runs.listing import below

    found = list(below(options.folder))
    if options.json:
        return streams.out(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    if not found and options.quiet:
        return ExitCode.OK
    if not found:
        streams.say(one_line(f"rowmill: no run lies below {options.folder}"))
        return ExitCode.OK
    return streams.out(f"{table(found)}\n")


def _clean(options: argparse.Namespace) -> int:
    from rowmill.interface.ui.figures import volume
    from rowmill.runs.clean import clean

    for target in options.runs:
        path, _ = run_of(options, target)
        cleaned = clean(path, everything=options.all, dry=options.dry_run)
        if options.quiet:
            continue
        did = "would remove" if options.dry_run else "removed"
        kept = (
            f"; the answers stay, for {cleaned.kept:,} failed rows could be retried (--all removes them too)"
            if cleaned.kept
            else ""
        )
        streams.say(
            one_line(f"rowmill: {cleaned.run_dir}: {did} {volume(cleaned.freed)}, {volume(cleaned.left)} stay{kept}")
        )
    return ExitCode.OK


def _init(options: argparse.Namespace) -> int:
    from rowmill.core import extras
    from rowmill.interface.cli import recipes

    if options.recipe is None:
        width = max(map(len, names := recipes.names()))
        return streams.out("".join(f"{name:<{width}} {recipes.about(name)}\n" for name in names))
    here = os.path.realpath(options.directory) == os.path.realpath(".")
    enter = "" if here else f"cd {options.directory} && "
    if options.preset is not None:
        from rowmill.interface.cli import preset_recipe

        written, advice = preset_recipe.write(options.recipe, options.directory, options.preset)
        following = [*advice, f"  next     {enter}rowmill check"]
    else:
        written = recipes.write(options.recipe, options.directory)
        command = extras.missing("aiohttp")
        simulator = f"the embedded simulator{'' if command is None else f' ({command})'}"
        following = [f"  next     {enter}rowmill run: by {simulator}, until config.toml names a provider"]
    if not options.quiet:
        wrote = ", ".join(str(path) for path in written)
        streams.say("\n".join(one_line(line) for line in [f"wrote {wrote}", *following]))
    return ExitCode.OK


def _simulate(options: argparse.Namespace) -> int:
    from rowmill.core import extras
    from rowmill.interface.cli.simulator_flags import settings

    extras.need("aiohttp", extras.SERVING)
    from rowmill.simulator.server import serve

    def ready(port: int) -> None:
        streams.out(f"http://127.0.0.1:{port}/v1\n")

    try:
        serve(settings(options), port=options.port, on_ready=ready)
    except (ValueError, OSError) as error:
        streams.say(f"rowmill simulate: {one_line(str(error))}")
        return ExitCode.USAGE
    return ExitCode.OK


def _completion(options: argparse.Namespace) -> int:
    from rowmill.interface.cli.completion import script

    return streams.out(script(options.shell))
