"""What a run has spent, over all of its sessions: the file `spending.json` of its directory.

Written before credit is handed out to workers, with that credit in `outstanding`, and about once a second. So what a
killed session may have spent is never more than what the file says: `lines` and `outstanding` together. The next
session counts what was outstanding as spent (`resumed`): nobody can tell any more, and this is the safe side.
"""

from pathlib import Path

import msgspec

from rowmill.core.amounts import Amount, Spent, limited
from rowmill.core.counts import ProviderSums
from rowmill.core.errors import RunDirectoryError
from rowmill.core.reports import SessionReport
from rowmill.core.tallies import Figures
from rowmill.store import durable


class SpendingLine(msgspec.Struct, kw_only=True):
    """What one model of one provider has used in one mode."""

    provider: str
    model: str
    mode: str  # "live" or "batch"
    spent: Spent = msgspec.field(default_factory=Spent)
    wasted: Spent = msgspec.field(default_factory=Spent)  # of it, by replies that were no valid answers
    lost: Spent = msgspec.field(default_factory=Spent)  # beside it, may be billed without a reply; tokens estimated
    step: str | msgspec.UnsetType = msgspec.UNSET  # of a run of several


class Spending(msgspec.Struct, kw_only=True):
    """All that a run has spent.

    session: how the session stands that is at work, or that was killed. counted: of the boards of its workers, by the
    names of boards, what `lines` and `session` have in them.
    """

    lines: list[SpendingLine] = []
    outstanding: Amount = Amount()  # handed out when this was written: may be spent beyond `lines`
    lost: Amount = Amount()  # the same of killed sessions and of workers that died: it counts as spent
    spared: Spent = msgspec.field(default_factory=Spent)  # what the cache and duplicates have saved
    packed_tokens: int = 0  # that packing has saved
    session: SessionReport | None = None
    counted: dict[str, Figures] = {}

    def line(self, provider: str, model: str, mode: str, step: str = "") -> SpendingLine:
        """Return the line of a model in a step of the run, made where there is none."""
        for line in self.lines:
            if (line.provider, line.model, line.mode, line.step or "") == (provider, model, mode, step):
                return line
        self.lines.append(SpendingLine(provider=provider, model=model, mode=mode, step=step or msgspec.UNSET))
        return self.lines[-1]


def load(path: Path) -> Spending:
    """Read what was spent; nothing where there is no file. Raise RunDirectoryError for a damaged one."""
    try:
        with durable.machine_errors(f"read {path}", absent=True):
            data = path.read_bytes()
    except FileNotFoundError:
        return Spending()
    try:
        return _decoded(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = (
            f"{path}, which says what this run has spent, is damaged ({error}): restore it from a backup, or move it "
            "away to go on; what was spent so far then counts as nothing, also for [budget]"
        )
        raise RunDirectoryError(msg) from error


def _decoded(data: bytes) -> Spending:
    """Read it; what is said of the session only tells people something, and is left out where it cannot be read."""
    try:
        return msgspec.json.decode(data, type=Spending)
    except msgspec.ValidationError:
        tree = msgspec.json.decode(data)
        if not isinstance(tree, dict) or not tree.pop("session", None):
            raise
        return msgspec.convert(tree, Spending)


def save(path: Path, spending: Spending, *, sync: bool) -> None:
    """Write what was spent, replacing what was there. A reader finds the old content or the new one.

    With `sync` it is on the disk when this returns, as a budget needs it. Without, a killed process loses nothing, but
    a power loss may lose the file.
    """
    amounts = {name: _finite(getattr(spending, name)) for name in ("outstanding", "lost")}
    data = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(spending, **amounts)), indent=2) + b"\n"
    with durable.machine_errors(f"write {path}"):
        if sync:
            durable.replace_durably(path, data)
        else:
            durable.replace_unsynced(path, data)


def resumed(spending: Spending) -> Spending:
    """Return it as a session begins: what the one before had handed out when it was killed is lost."""
    return msgspec.structs.replace(spending, lost=spending.lost + _finite(spending.outstanding), outstanding=Amount())


def count(line: SpendingLine, sums: ProviderSums) -> None:
    """Add what a provider was asked for to its line."""
    told = Spent(sums.requests, sums.prompt_tokens, sums.cached_tokens, sums.completion_tokens)
    line.spent = Spent.total([line.spent, told])
    line.wasted = Spent.total([line.wasted, sums.wasted])
    line.lost = Spent.total([line.lost, sums.doubtful])


def usual(spent: Spent, requests: int) -> Spent:
    """Return what so many requests have cost, if they cost what others did on average."""
    share = requests / spent.requests if spent.requests else 0.0
    return Spent(requests, round(share * spent.prompt_tokens), 0, round(share * spent.completion_tokens))


def _finite(amount: Amount) -> Amount:
    """Return it without what is not limited: JSON has no infinity, and what has no limit is not handed out."""
    return limited(amount, amount)
