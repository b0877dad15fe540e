"""The rows in a report: what stands in their fields, why some have failed, and some of them whole."""

import json
import struct
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.fingerprints import last_of
from rowmill.core.counts import Totals
from rowmill.core.fault_words import words_of
from rowmill.files.output import vectors
from rowmill.runs.answered import Line
from rowmill.runs.report.document import FailureExample, FailureFacts, FieldsFacts, ReplyFacts
from rowmill.runs.report.field_counts import FieldCounts
from rowmill.runs.report.questions import AskedRow, asked_of
from rowmill.runs.report.recorded import RecordedRows
from rowmill.runs.report.sources import RunSources
from rowmill.runs.report.texts import cut, told, told_or_none

_REPLIES = 20
_EXAMPLES = 3  # of a class of failures
_CLASSES = 40
_COUNTED_CLASSES = 4_000  # there are some twenty; whoever makes up more has the others in a sum
_NAME = 120  # characters of an id, a code, a class
_MESSAGE, _INPUT, _PROMPT, _REPLY = 600, 800, 1_600, 2_000
_NUMBERS = 3  # of a vector


class _Output(msgspec.Struct):
    output: Any = None


class _Class(msgspec.Struct):
    class_: str = msgspec.field(default="", name="class")


class _Failed(msgspec.Struct):
    error: _Class


_decode_output = msgspec.json.Decoder(_Output).decode
_decode_failed = msgspec.json.Decoder(_Failed).decode


class RowsSeen:
    """What the recorded rows come to, as far as they are looked at."""

    def __init__(self, sources: RunSources, config: Config | None, *, whole: bool) -> None:
        """Look at them. whole: at all of them, and at the input of each that is shown."""
        recorded = RecordedRows(sources, whole=whole)
        asked = sources.fingerprint
        self._vectors = last_of(asked, "api") == "embeddings"
        structured = not self._vectors and asked.get("output.format") != "batch"
        self._counts = FieldCounts() if structured else None
        self._examples: dict[str, list[Line]] = {}
        self._picked: list[Line] = []  # every so many-th
        self._failed: Counter[str] = Counter()
        self.rows = 0
        self.complete = recorded.whole  # every recorded row was looked at
        self._go_through(recorded)
        looked_at = self.rows + recorded.left_out
        missing = sources.totals.rows - looked_at if self.complete and not sources.at_work else 0
        self._lacking = missing > 0  # files are damaged or gone, or a retry was broken off
        if recorded.cleaned and not self.rows and sources.totals.rows:
            sources.problems.append("the answers were removed by rowmill clean: no row can be shown")
        elif self._lacking:
            sources.problems.append(
                f"{missing:,} of {sources.totals.rows:,} rows have no record that can be read: what is told of fields, "
                "and the rows that are shown, are without them"
            )
        places = dict.fromkeys(place * len(self._picked) // _REPLIES for place in range(_REPLIES))
        self._shown = sorted((self._picked[place] for place in places if self._picked), key=_number)
        shown = [*self._shown, *(line for lines in self._examples.values() for line in lines)]
        self._asked: dict[int, AskedRow] = {}
        if shown:
            self._asked = asked_of(sources, config, shown, thorough=whole)

    def _go_through(self, recorded: Iterable[tuple[bytes, bool]]) -> None:
        step = 1
        counts = self._counts
        for line, failed in recorded:
            if failed:
                self._take_failed(line)
            elif counts is not None:
                try:
                    counts.take(_decode_output(line).output, len(line))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    if (loose := _loosely(line)) is not None:
                        counts.take(loose.get("output"), len(line))
            if self.rows % step == 0 and (kept := self._kept(line)) is not None:
                self._picked.append(kept)
                if len(self._picked) == 2 * _REPLIES:
                    del self._picked[1::2]
                    step *= 2
            self.rows += 1

    def _kept(self, line: bytes) -> Line | None:
        """Return what is shown of a row: texts are cut at once, for rows may be megabytes long."""
        whole = _loosely(line)
        if whole is None:
            return None
        kept = {name: whole.get(name) for name in ("index", "finish_reason", "model", "usage")}
        kept["id"] = None if whole.get("id") in (None, whole.get("index")) else told(whole["id"], _NAME)
        error = whole.get("error")
        kept["error"] = {name: _shortened(value) for name, value in error.items()} if isinstance(error, dict) else None
        if "input" in whole:
            kept["input"] = told(whole["input"], _INPUT)
        output = whole.get("output")
        kept["output"] = told(_vector(output) if self._vectors else output, _REPLY)
        return kept

    def _take_failed(self, line: bytes) -> None:
        try:
            fault = _decode_failed(line).error.class_
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            loose = _loosely(line)
            error = None if loose is None else loose.get("error")
            fault = str(error.get("class")) if isinstance(error, dict) else ""
        fault = cut(fault, _NAME)
        if fault not in self._failed and len(self._failed) >= _COUNTED_CLASSES:
            return
        self._failed[fault] += 1
        wanted = fault in self._examples or len(self._examples) < _CLASSES
        if wanted and self._failed[fault] <= _EXAMPLES and (kept := self._kept(line)):
            self._examples.setdefault(fault, []).append(kept)

    def counted_into(self, totals: Totals) -> Totals:
        """Return what the run comes to; where every row was looked at and there are more, as many as there are.

        The last second of a session that was killed stands nowhere else, nor do the rows of one without a report.
        """
        if not self.complete or self.rows <= totals.rows:
            return totals
        return msgspec.structs.replace(totals, rows=self.rows, failed=self._failed.total())

    def fields(self, of: int) -> FieldsFacts | None:
        """Return what stands in the answers, of so many in all."""
        return None if self._counts is None else self._counts.facts(of)

    def replies(self) -> list[ReplyFacts]:
        """Return some rows, in their order."""
        return [self._reply(line) for line in self._shown]

    def failures(self, counted: dict[str, int], failed: int) -> tuple[list[FailureFacts], tuple[int, int]]:
        """Return the classes with most rows first, and how many are left out, with their rows.

        counted: rows by class, as the merge has counted them, which has not come to all yet where a run was stopped.
        failed: rows in all.
        """
        classes: Counter[str] = Counter(self._failed if self.complete and not self._lacking else counted)
        for name in self._failed:
            classes.setdefault(name, self._failed[name])
        shown = classes.most_common(_CLASSES)
        facts = []
        for name, rows in shown:
            words = words_of(name)
            examples = [self._example(line) for line in sorted(self._examples.get(name, ()), key=_number)]
            facts.append(
                FailureFacts(
                    name=cut(name, _NAME), rows=rows, meaning=words.meaning, advice=words.advice, examples=examples
                )
            )
        rest = max(0, failed - sum(rows for _, rows in shown))
        return facts, (max(0, len(classes) - len(shown)), rest)

    def _example(self, line: Line) -> FailureExample:
        error = line.get("error")
        error = error if isinstance(error, dict) else {}
        message = told(error.get("message") or "", _MESSAGE)
        if error.get("reply") is not None:
            message = f"{message}\n\n{told(error['reply'], _MESSAGE)}"
        status = error.get("status")
        asked = self._asked.get(_number(line), AskedRow())
        return FailureExample(
            index=_number(line),
            id=line["id"],
            code=told_or_none(error.get("code"), _NAME),
            status=status if isinstance(status, int) else None,
            message=message,
            input=told_or_none(line.get("input", asked.input), _INPUT),
            prompt=told_or_none(asked.prompt, _PROMPT),
        )

    def _reply(self, line: Line) -> ReplyFacts:
        error = line.get("error")
        if isinstance(error, dict):
            output = f"{told(error.get('class') or '', _NAME)}: {told(error.get('message') or '', _MESSAGE)}"
        else:
            output = line["output"]
        asked = self._asked.get(_number(line), AskedRow())
        return ReplyFacts(
            index=_number(line),
            id=line["id"],
            failed=isinstance(error, dict),
            input=told_or_none(line.get("input", asked.input), _INPUT),
            prompt=told_or_none(asked.prompt, _PROMPT),
            output=output,
            finish_reason=told_or_none(line.get("finish_reason"), _NAME),
            model=told_or_none(line.get("model"), _NAME),
            tokens=_tokens(line.get("usage")),
        )


def _loosely(line: bytes) -> Line | None:
    """Return a line decoded, also one with half a surrogate pair, which msgspec refuses."""
    with suppress(ValueError, RecursionError):
        return msgspec.json.decode(line, type=Line)
    with suppress(ValueError, RecursionError):
        loose = json.loads(line)
        return loose if isinstance(loose, dict) else None
    return None


def _number(line: Line) -> int:
    index = line.get("index")
    return index if isinstance(index, int) else -1


def _shortened(value: Any) -> Any:
    """Return a member of an error, without the rest of a reply that was no answer, which may be megabytes."""
    return value if value is None or isinstance(value, int) else told(value, _MESSAGE)


def _vector(output: Any) -> Any:
    """Return a vector by its length and first numbers: nobody reads more, and numpy takes a tenth of a second."""
    with suppress(ValueError, TypeError):
        (data,) = vectors.decoded([output])
        if data is not None:
            first = (f"{each:.6g}" for (each,) in struct.iter_unpack("<f", data[: 4 * _NUMBERS]))
            return f"{len(data) // 4:,} numbers: {', '.join(first)}, …"
    return output


def _tokens(usage: Any) -> tuple[int, int] | None:
    """Return the tokens of the prompt and of the reply, by the names of either API."""
    if not isinstance(usage, dict):
        return None
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    completion = usage.get("completion_tokens", usage.get("output_tokens", 0))
    return (prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None
