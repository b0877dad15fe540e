"""The supervisor's end of the budget: what each worker may spend, and when nothing more can be covered.

The promise: what was spent, by whatever session, and what workers can still spend come to the cap at most. Workers
reserve an estimate before they send (`credit`), so the bill passes the cap by no more than what requests in flight
settle above their estimates. Such an excess stays a debt of its worker, and the next grant pays it first.

The pool is what nobody holds:

    pool = cap - spent by earlier sessions - spent by ended workers - lost - sum of max(granted, spent) of the living

Grants. A worker that uses its credit is to have two seconds of its use in hand, but no more than 1 / (2 x workers) of
the pool: so the pool shrinks geometrically, and near the end nobody sits on what others could use. A worker whose
credit does not cover its next request says so (`short`), gives back what it has, and gets at least its need, if the
pool covers that.

The end. When the pool does not cover a need, workers that do not use their credit are asked for it (a recall, answered
once), and those that use it go on until they are short as well. Once nobody can go on, and all credit together covers
no need, the budget is exhausted at once: what is in flight may still settle below its estimate, but on average it does
not. Only where the settled requests show that those in flight are reserved far too high (before anything was learned,
estimates are upper bounds) are their settlements waited for.

A worker that dies takes along what it was given: it may have spent that after its last report, so it counts as spent
(`lost`). That is the safe side, and small: a worker that has much more than it uses is asked for it.
"""

from collections.abc import Callable, Iterable
from math import inf

from msgspec.structs import astuple

from rowmill.budget.account import Account
from rowmill.core.amounts import NOTHING, Amount, above, covers, each, limited, times, unlimited

_KEYS = ("budget.max_requests", "budget.max_tokens", "budget.max_usd")
_PATIENCE_S = 30.0  # without any news or grant: what should be there does not come back
_REPLIES_S = 900.0  # the same for requests in flight, which end by their own timeout, of 600 s where none is set
_ADVICE = "raise it and run the same command again"
_DUST = 1e-10  # of the cap: what sums over a run are rounded by; nobody is to wait or to be stopped for it


class BudgetAllocator:
    """A budget, handed out among holders: integers that name one worker process each.

    exhausted: why nothing more can be covered anywhere; None while something can. Nothing is granted from then on.
    lost: what workers that died may have spent beyond what they reported; it counts as spent.
    pressing: whether `grants` should be called now rather than in its time.
    """

    def __init__(self, cap: Amount, spent: Amount, *, workers: int = 1) -> None:
        """`cap`: infinite where nothing is limited; `spent`: by earlier sessions; `workers`: that there will be."""
        self._cap = cap
        self._dust = times(_DUST, limited(cap, cap))
        self._workers = workers
        # All mutable state: who has what, who waits for more in the order of asking, and what is gone for good.
        self._accounts: dict[int, Account] = {}
        self._waiting: dict[int, Account] = {}
        self._before = spent
        self._ended = NOTHING  # settled by workers that are gone
        self.lost = NOTHING
        self.pressing = False
        self._news = False  # reports since the last call of `grants` said something new
        self._news_at = self._granted_at = -inf
        self.exhausted: str | None = None
        least = each(max, Amount(1.0), self._dust)
        if not covers(self._pool(), least):
            self.exhausted = self._reason(least)

    def __repr__(self) -> str:
        return f"<{self._pool()} left, {self.lost} lost; {self._accounts}; exhausted: {self.exhausted}>"

    @property
    def outstanding(self) -> Amount:
        """What was handed out and is neither spent nor returned; what is in flight counts as spent."""
        return _sum(account.outstanding for account in self._accounts.values())

    @property
    def reserved(self) -> Amount:
        """Of what is spent, what requests in flight are estimated at. A session that is killed may have paid for it."""
        return _sum(account.reserved for account in self._accounts.values())

    @property
    def spent(self) -> Amount:
        """All that counts as spent, earlier sessions, requests in flight and what is lost included."""
        return self._before + self._ended + self.lost + _sum(account.spent for account in self._accounts.values())

    def join(self, holder: int, now: float) -> None:
        """Take in a worker process. It has nothing until it asks for what its first request needs."""
        self._accounts[holder] = Account(now, self._dust)

    def leave(self, holder: int) -> None:
        """Strike a worker process that has ended. What it had and did not report as spent and settled is lost."""
        account = self._accounts.pop(holder, None)
        if account is None:
            return
        self._waiting.pop(holder, None)
        self._ended += account.settled
        self.lost += account.unsettled
        self.pressing = True

    def report(self, holder: int, spent: Amount, reserved: Amount = NOTHING) -> None:
        """Take in what a worker has spent since its start, and what of it is reserved for requests in flight."""
        account = self._accounts.get(holder)
        if account is not None:
            self._news |= (account.spent, account.reserved) != (spent, reserved)
            account.report(spent, reserved)

    def short(self, holder: int, left: Amount, need: Amount) -> None:
        """Take back what a worker has left. It waits for what it needs; with no need it answers a recall."""
        account = self._accounts.get(holder)
        if account is None:
            return
        account.short(limited(self._cap, left), need)
        if account.need is not None:
            self._waiting.setdefault(holder, account)  # in its place, if it has asked before
        self.pressing = True

    def grants(self, now: float) -> list[tuple[int, Amount | None]]:
        """Return what to send now: amounts to allow, None for a recall. They count as handed out from here on.

        To be called about four times a second, and at once when `pressing`.
        """
        self.pressing = False
        if self._news:
            self._news, self._news_at = False, now
        for account in self._accounts.values():
            account.look(now)
        if self.exhausted is not None:
            return []
        granted = self._answer(now)
        if not self._waiting:
            granted += self._top_up(now)
            return granted + self._recall(now, Account.excess)
        if self._reachable(account.outstanding for account in self._accounts.values()):
            granted += self._recall(now, Account.hoard)
        if not self._can_go_on(now):
            self.exhausted = self._reason()
        return granted

    # What is done with the pool

    def _pool(self) -> Amount:
        gone = self._before + self._ended + self.lost
        return self._cap - gone - _sum(account.committed for account in self._accounts.values())

    def _grant(self, holder: int, account: Account, amount: Amount, now: float) -> tuple[int, Amount]:
        amount = limited(self._cap, amount)
        account.grant(amount, now)
        self._granted_at = now
        return holder, unlimited(self._cap, amount)

    def _fair(self, pool: Amount) -> Amount:
        return times(1.0 / (2 * max(self._workers, len(self._accounts))), pool)

    def _answer(self, now: float) -> list[tuple[int, Amount | None]]:
        """Give those that wait what they need, or more, in the order of asking, as far as the pool covers it."""
        granted: list[tuple[int, Amount | None]] = []
        for holder, account in list(self._waiting.items()):
            assert account.need is not None
            pool = self._pool()
            if covers(pool + self._dust + account.debt, account.need):
                amount = each(max, account.need, each(min, account.wish(now), self._fair(pool)))
                del self._waiting[holder]
                granted.append(self._grant(holder, account, amount, now))
        return granted

    def _top_up(self, now: float) -> list[tuple[int, Amount | None]]:
        """See that those that use their credit do not run out of it."""
        granted: list[tuple[int, Amount | None]] = []
        for holder, account in self._accounts.items():
            pool = self._pool()
            goal = each(min, account.goal, above(self._fair(pool)))
            # Not all of a debt is paid where the pool is below 0 for it: it would be credit again once replies free it.
            missing = each(min, limited(self._cap, goal - account.credit), pool + account.debt)
            if not account.recalled and account.runs_low(missing, goal):
                granted.append(self._grant(holder, account, above(missing), now))
        return granted

    # The end

    def _reachable(self, elsewhere: Iterable[Amount]) -> bool:
        """Tell whether any need is covered by the pool together with what others have."""
        there = self._pool() + self._dust + _sum(elsewhere)
        return any(covers(there + account.debt, account.need or NOTHING) for account in self._waiting.values())

    def _recall(self, now: float, idle: Callable[[Account, float], Amount]) -> list[tuple[int, Amount | None]]:
        """Ask those for their credit that wait all the same, or have too much of it."""
        recalled: list[tuple[int, Amount | None]] = []
        for holder, account in self._accounts.items():
            stuck = account.outstanding if account.need is not None and account.fresh else NOTHING
            if not account.recalled and (stuck != NOTHING or idle(account, now) != NOTHING):
                account.recalled = True
                recalled.append((holder, None))
        return recalled

    def _can_go_on(self, now: float) -> bool:
        """Tell whether anybody that waits may still be covered, or anybody that does not wait may go on."""
        accounts = self._accounts.values()
        if any(account.need is None and account.busy(now) for account in accounts):
            return True
        silence = now - max(self._news_at, self._granted_at)
        if silence < _PATIENCE_S:
            if any(account.need is not None and not account.fresh for account in accounts):
                return True  # what settlements have freed is not known yet
            if self._reachable(account.outstanding for account in accounts):
                return True
        if silence >= _REPLIES_S or all(account.hidden == NOTHING for account in accounts):
            return False
        return self._reachable(above(account.credit + account.hidden) for account in accounts)

    def _reason(self, least: Amount | None = None) -> str:
        """Say which limit it is that does not cover so much; left out: the need that is smallest."""
        there = self._pool() + _sum(account.outstanding for account in self._accounts.values())
        if least is None:
            account = min(self._waiting.values(), key=lambda account: astuple(account.need or NOTHING)[::-1])
            least = account.need or NOTHING
            there += account.debt
        figures = zip(_KEYS, *map(astuple, (self._cap, there, least, self.spent, self.lost)), strict=True)
        key, cap, _, need, spent, lost = min(figures, key=lambda each: each[2] / each[3] if each[3] else inf)
        show = _dollars if key == "budget.max_usd" else _count
        if need > cap:
            return f"{key}: {show(cap)} does not cover one request, which needs about {show(need)}; {_ADVICE}"
        gone = f" ({show(lost)} of it was in the hands of workers that died)" if lost else ""
        return f"{key}: {show(spent)} of {show(cap)} is spent{gone}; {_ADVICE}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _dollars(value: float) -> str:
    return f"{value:,.2f}" if value >= 10 else f"{value:.6f}"  # noqa: PLR2004 - as many digits as tell something


def _sum(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, NOTHING)
