"""What the supervisor knows of one worker process and its credit."""

from math import inf

from msgspec.structs import astuple

from rowmill.core.amounts import NOTHING, Amount, above, each, times

_LOOK_S = 0.2  # reports come four times a second
_SMOOTH = 0.5  # of the rate of use: the weight of the latest look
_IDLE_S = 1.0  # without a request sent and without a grant: out of rows, or waiting for something else
_IN_HAND_S = 2.0  # use that a worker is to have credit for: reports, grants and a busy supervisor take their time
_HOARD_S = 4.0  # use that it may have credit for while others have none
_TRIM_S = 10.0  # use that it may have credit for at all: if it dies, what it has counts as spent
_FIRST = 16  # requests that a first grant is for; the next ones double while they come within a second,
_MOST = 1 << 20  # up to this


class Account:
    """One worker process.

    granted: handed out and not returned, of what is limited; spent, reserved: as it reported last.
    need: what it waits for; None where it does not.
    fresh: it has reported since it last gave credit back, so that `credit` is what it has.
    """

    def __init__(self, now: float, dust: Amount) -> None:
        """`dust`: less than this is what sums are rounded by, and nothing to be had."""
        self._dust = dust
        self.granted = self.spent = self.reserved = NOTHING
        self.need: Amount | None = None
        self.recalled = False  # and has not answered yet
        self.fresh = False
        self._usual = NOTHING  # the latest need
        self._rate = NOTHING  # use a second
        self._looked = NOTHING  # what was spent at the last look
        self._looked_at = self._active_at = now
        self._granted_at = -inf
        self._chunk = _FIRST  # requests of the latest grant

    def __repr__(self) -> str:
        need = "" if self.need is None else f", waits for {self.need}"
        return f"<{self.credit} left{need}{', recalled' if self.recalled else ''}>"

    @property
    def credit(self) -> Amount:
        """What it can still spend; a debt is below 0, and so is all that is not limited."""
        return self.granted - self.spent

    @property
    def outstanding(self) -> Amount:
        """What it can still spend, debts left out."""
        return self._beyond_dust(self.granted - self.spent)

    @property
    def debt(self) -> Amount:
        """What it has spent beyond its grants."""
        return above(self.spent - self.granted)

    @property
    def committed(self) -> Amount:
        """What the pool is without for its sake."""
        return each(max, self.granted, self.spent)

    @property
    def settled(self) -> Amount:
        """What is certain of what it has spent."""
        return above(self.spent - self.reserved)

    @property
    def unsettled(self) -> Amount:
        """What it may have spent beyond what is certain, if it has died."""
        return self._beyond_dust(self.committed - self.settled)

    def _beyond_dust(self, amount: Amount) -> Amount:
        return each(lambda value, dust: value if value > dust else 0.0, amount, self._dust)

    @property
    def hidden(self) -> Amount:
        """What requests in flight would free if they cost what settled ones did; counts where estimates are far off."""
        settled = self.settled
        usual = times(self.reserved.requests / settled.requests if settled.requests else 0.0, settled)
        tokens, usd = 0.9 * self.reserved.tokens - usual.tokens, 0.9 * self.reserved.usd - usual.usd
        return above(Amount(0.0, tokens, usd))

    def report(self, spent: Amount, reserved: Amount) -> None:
        """Take in what it has spent since its start."""
        self.spent, self.reserved = spent, reserved
        self.fresh = True

    def short(self, left: Amount, need: Amount) -> None:
        """Take back what it returned; a need of nothing answers a recall, and what it waits for stands."""
        self.granted -= left
        self.fresh = False
        if need == NOTHING:
            self.recalled = False
        else:
            self.need = self._usual = need

    def grant(self, amount: Amount, now: float) -> None:
        """Note a grant, of what is limited."""
        self.granted += amount
        self.need = None
        self._granted_at = self._active_at = now

    def look(self, now: float) -> None:
        """Measure how fast it spends."""
        passed = now - self._looked_at
        if passed < _LOOK_S:
            return
        if self.spent.requests > self._looked.requests:
            self._active_at = now
        used = above(self.spent - self._looked)
        self._rate = each(lambda rate, used: rate + (used / passed - rate) * _SMOOTH, self._rate, used)
        self._looked, self._looked_at = self.spent, now

    def busy(self, now: float) -> bool:
        """Whether it has sent something lately, or could not yet ask for what it takes to."""
        return now - self._active_at < _IDLE_S

    @property
    def goal(self) -> Amount:
        """What it should have in hand by its use so far."""
        return times(_IN_HAND_S, self._rate)

    def wish(self, now: float) -> Amount:
        """Return what a grant for its need would ideally be: more each time, while it is used up at once."""
        assert self.need is not None
        self._chunk = min(2 * self._chunk, _MOST) if now - self._granted_at < _IDLE_S else _FIRST
        return each(max, self.goal, times(self._chunk, self.need))

    def runs_low(self, missing: Amount, goal: Amount) -> bool:
        """Tell whether what is missing to a goal is worth a grant: half of it, and no less than a request."""
        figures = zip(*map(astuple, (missing, times(0.5, goal), self._usual)), strict=True)
        return any(lack > 0 and lack >= max(half, usual) for lack, half, usual in figures)

    def hoard(self, now: float) -> Amount:
        """Return what it does not seem to use while others need it."""
        if now - self._granted_at < _IDLE_S:
            return NOTHING
        return above(self.outstanding - times(_HOARD_S, self._rate))

    def excess(self, now: float) -> Amount:
        """Return what it has beyond any use."""
        if now - self._granted_at < _IN_HAND_S:
            return NOTHING
        return above(self.outstanding - each(max, times(_TRIM_S, self._rate), times(_FIRST, self._usual)))
