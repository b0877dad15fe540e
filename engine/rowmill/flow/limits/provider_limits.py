"""What one provider lets through now: configured, learned from its headers, and learned from its refusals.

Of each quantity, requests and tokens, the smallest of these counts:
- the configured limit a minute, and what is left of the configured day;
- the limit that the headers describe, once they are believed (`learned`);
- a ceiling after refusals that no known limit explains (`ceiling`).

Refusals lower the ceiling of tokens where the known limit of tokens is what is nearly used up, more so than that of
requests; otherwise that of requests, which also holds where nothing is known: then requests are all that is counted.
Few refusals among many requests lower nothing: some servers refuse one now and then, whatever the rate. Nor do those
of a provider that lets nothing through at all (`silence`). What was let through while each refusal held everybody is no
ceiling any more once they are known to stand alone (`strays`).
"""

from rowmill.core.config import ProviderConfig
from rowmill.core.leases import LimitSample, Share
from rowmill.flow.limits.ceiling import Ceiling
from rowmill.flow.limits.day_budget import DayBudget
from rowmill.flow.limits.learned import LONG_S, Evidence, Learned
from rowmill.flow.limits.silence import Silence
from rowmill.flow.limits.slow_down import SlowDown
from rowmill.flow.limits.window import SlidingWindow

_MINUTE_S = 60.0
_DAY_S = 86_400.0

# Of the second's worth that the design allows. A quarter is far above the timer's resolution of about 1 ms, so no
# rate is wasted, and leaves the rest of what servers tolerate to the network's jitter. Slow rates may burst by two
# within a second: with one alone, every millisecond that a loop is late would be lost for good.
_BURST_S = 0.25
_LEAST_BURST = 2.0

_FLOORS = {"requests": 1 / 60, "tokens": 10.0}  # a second: one request a minute, of some hundred tokens
_STRAY = 0.002  # of what was sent over _STRAY_S, the share of refusals that lowers nothing
_STRAY_S = 10.0
_UNPROVEN = 0.02  # and as long as there is no ceiling, this share, ...
_STRAYS, _OF = 2, 20  # ... or so few of more requests than this: some servers refuse one in a hundred at any rate
_STRAYS_HELD = 8  # where each of them has held everybody: that paces too
_MOST_ALONE = 0.1  # of what was sent over _STRAY_S, the share of refusals that may stand alone
_WAIT_S = 0.3  # refusals are told at once, what was sent in the next report: by then both are known
_TAKEN_S = (2.0, 30.0)  # what was taken is figured over so long, ...
_TAKEN_REQUESTS = 30.0  # ... and so many requests
_IN_FORCE_S = 2.0  # after it, a change has reached every worker
_USED_S = 5.0
_NEARLY = 0.8  # of a limit: so much in use, it may be what is refused
_STALE_S = 10.0  # a sample that nobody repeated for so long may come again as news
_OLDEST_S = 60.0  # no reply takes longer between its headers and its report, or nearly none
_AGE_S = 2.0  # the usual age of a sample


class _Quantity:
    """Requests, or tokens."""

    def __init__(self, name: str, per_minute: float | None, per_day: float | None, now: float) -> None:
        self.name = name
        self.configured = per_minute
        self.day = None if per_day is None else DayBudget(per_day, _DAY_S, now)
        self.learned: Learned | None = None
        self.learned_budget: DayBudget | None = None  # where what was learned is a day or an hour
        self.ceiling = Ceiling(_FLOORS[name])
        self.slow_down = SlowDown(_FLOORS[name])
        self._evidence = Evidence()
        self._seen: dict[LimitSample, float] = {}  # when it was last told

    @property
    def budgets(self) -> list[DayBudget]:
        return [budget for budget in (self.day, self.learned_budget) if budget is not None]

    @property
    def per_minute(self) -> float | None:
        """The limit a minute that is known, None where there is none."""
        learned = self.learned
        if learned is None or learned.period_s >= LONG_S:
            return self.configured
        per_minute = learned.limit / learned.period_s * _MINUTE_S
        return per_minute if self.configured is None else min(self.configured, per_minute)

    @property
    def largest(self) -> float | None:
        """What no single request may exceed: the smallest of the buckets."""
        sizes = [bucket.limit for bucket in (self.learned, self.day) if bucket is not None]
        if self.configured is not None:
            sizes.append(self.configured)
        return min(sizes, default=None)

    def share(self, now: float) -> Share | None:
        known = self.per_minute
        rates = [
            None if known is None else known / _MINUTE_S,
            self.ceiling.rate(now),
            self.slow_down.rate(now),
        ]
        rate = min((rate for rate in rates if rate is not None), default=None)
        shares = [] if rate is None else [Share(rate, burst(rate))]
        shares += [budget.share(now) for budget in self.budgets]
        if not shares:
            return None
        return Share(min(share.rate for share in shares), min(share.burst for share in shares))

    def relax(self, used: float, now: float) -> None:
        known = self.per_minute
        for brake in (self.ceiling, self.slow_down):
            brake.relax(used, None if known is None else known / _MINUTE_S, now)

    def sample(self, sample: LimitSample, sent: tuple[float, float], now: float) -> str | None:
        """Take in a sample; `sent`: units over _AGE_S and over _OLDEST_S. Returns news, if any."""
        if not self._is_new(sample, now):
            return None
        learned, before = self.learned, self.per_minute
        if self.learned_budget is not None and learned is not None and sample.limit == learned.limit:
            self.learned_budget.said(sample, sent[1], now)
        found = self._evidence.add(sample, now)
        if found is None or found == learned:
            return None
        self.learned = found
        self.learned_budget = None
        if found.period_s >= LONG_S:
            self.learned_budget = DayBudget(found.limit, found.period_s, now)
            self.learned_budget.said(sample, sent[0], now)
            return f"learned from the server's headers: {found.text(self.name)}"
        if self.per_minute == before:
            return None
        if self.per_minute == self.configured:
            return f"the server's headers allow more again: {self.configured:,.10g} {self.name} a minute, as configured"
        return f"learned from the server's headers: {found.text(self.name)}"

    def _is_new(self, sample: LimitSample, now: float) -> bool:
        """Tell whether the sample is not one that its worker merely repeats."""
        before = self._seen.pop(sample, None)
        self._seen[sample] = now  # behind those that were told earlier
        while now - next(iter(self._seen.values())) > _STALE_S:
            del self._seen[next(iter(self._seen))]
        return before is None or now - before > _STALE_S


class ProviderLimits:
    """All limits of one provider. The caller asks a few times a second, and tells what was sent as often.

    largest: tokens that no request may exceed, None where there is no limit.
    """

    def __init__(self, provider: ProviderConfig, now: float) -> None:
        """Start from what is configured. The day's budgets start full."""
        self._requests = _Quantity("requests", provider.requests_per_minute, provider.requests_per_day, now)
        self._tokens = _Quantity("tokens", provider.tokens_per_minute, provider.tokens_per_day, now)
        self._window = SlidingWindow(now)
        self._silence = Silence()
        self._start = now
        self._refused_at: float | None = None  # the first refusal that is not judged yet
        self._told = 0.0  # the rate that came with the latest refusal
        self._said_ceiling = False
        self._news: list[str] = []

    @property
    def silent(self) -> bool:
        """Whether nothing is let through, as far as is known."""
        return self._silence.lasts

    @property
    def largest(self) -> float | None:
        """Tokens that no request may exceed: no waiting would help it."""
        return self._tokens.largest

    def requests(self, now: float) -> Share | None:
        """Return what all workers together may send a second and at once; None where no limit is known."""
        self._judge(now)
        share = self._requests.share(now)
        probes = self._silence.rate(now)
        return share if probes is None or (share is not None and share.rate <= probes) else Share(probes, 1.0)

    def tokens(self, now: float) -> Share | None:
        """As `requests`, in tokens."""
        self._judge(now)
        return self._tokens.share(now)

    def learned(self) -> list[str]:
        """Return what was learned since the last call, as a line each."""
        news, self._news = self._news, []
        return news

    def spent_before(self, requests: float, tokens: float, seconds_ago: float) -> None:
        """Debit the configured day's budgets by an earlier session, which ended so long ago. Call it at the start."""
        for quantity, units in ((self._requests, requests), (self._tokens, tokens)):
            if quantity.day is not None:
                quantity.day.spent_before(units, self._start - max(0.0, seconds_ago))

    def paused(self, seconds: float) -> None:
        """Take note that the provider was paused for the last so many seconds: that says nothing of what it takes."""
        self._window.skip(seconds)

    def holds(self) -> None:
        """Take note that a refusal holds everybody."""
        for quantity in (self._requests, self._tokens):
            quantity.ceiling.paces()

    def stands_alone(self) -> None:
        """Take note that a refusal holds its own row only. Where many are refused, a ceiling stays all the same."""
        lately = self._window.over(_STRAY_S)
        if lately.refused > _MOST_ALONE * lately.sent:
            return
        for quantity in (self._requests, self._tokens):
            quantity.ceiling.stands_alone()

    def held(self) -> None:
        """Take note that a pause is over: whether anything is let through now has yet to be seen."""
        self._silence.held()

    def spent(
        self, requests: int, tokens: int, now: float, *, refused: int = 0, answered: int | None = None, early: int = 0
    ) -> None:
        """Count what reports since the last call say was sent, refused and answered.

        Tokens may be below 0, where estimates were too high. `answered`: None where it is all that was not refused.
        `early`: of those refused, also earlier, so many came before anything was let through; below 0 where they did
        not after all.
        """
        self._window.sent(requests - early, tokens, now, refused=refused - early)
        if self._silence.spent(requests, refused, requests - refused if answered is None else answered, now):
            self._window.forget(now)
            self._refused_at = None
        for budget in self._requests.budgets:
            budget.spent(requests, requests, now)
        for budget in self._tokens.budgets:
            budget.spent(tokens, requests, now)
        self._judge(now)
        used = self._window.over(_USED_S)
        self._requests.relax(used.taken_per_s, now)
        self._tokens.relax(used.taken_per_s * used.tokens_of_one, now)

    def sample(self, requests: LimitSample | None, tokens: LimitSample | None, now: float) -> None:
        """Take in what a worker's latest reply said. To repeat an old one does no harm."""
        if requests is None and tokens is None:
            return
        lately, minute = self._window.over(_AGE_S), self._window.over(_OLDEST_S)
        for quantity, sample, sent in (
            (self._requests, requests, (lately.sent, minute.sent)),
            (self._tokens, tokens, (lately.tokens, minute.tokens)),
        ):
            if sample is not None and (line := quantity.sample(sample, sent, now)) is not None:
                self._news.append(line)

    def refused(self, now: float, *, slow_down: bool, requests_per_s: float, tokens_per_s: float) -> None:
        """Take note of a 429, to be judged with the next reports. `spent` counts it.

        The rates are what was answered lately: used where nothing is known of what was sent.
        """
        self._told = requests_per_s
        if now < self._silence.deaf_until or (slow_down and self._silence.lasts and not requests_per_s):
            return
        if slow_down:
            lately = self._window.over(_TAKEN_S[0])
            if self._requests.slow_down.rate(now) is None:
                self._news.append("the provider asks to slow down: half the rate, growing by half in 15 minutes")
            self._requests.slow_down.said(lately.taken_per_s or requests_per_s, lately.sent_per_s, now)
            if self._tokens.per_minute is not None:
                unit = lately.tokens_of_one
                self._tokens.slow_down.said(lately.taken_per_s * unit or tokens_per_s, lately.sent_per_s * unit, now)
        elif self._refused_at is None:
            self._refused_at = now

    def _judge(self, now: float) -> None:
        """Lower a ceiling where the latest refusals call for it."""
        if self._refused_at is None or now - self._refused_at < _WAIT_S:
            return
        lately = self._window.over(_STRAY_S)
        if not lately.sent and not self._told:
            return  # what was refused will be in a later report
        self._refused_at = None
        if self._silence.lasts and not self._told:
            return
        quantity = self._tokens if self._tokens_bind() else self._requests
        ceiling = quantity.ceiling.rate(now)
        if lately.refused < (_UNPROVEN if ceiling is None else _STRAY) * lately.sent:
            return
        few = (_STRAYS_HELD if quantity.ceiling.held else _STRAYS) if lately.sent > _OF else 1
        if ceiling is None and lately.sent and lately.refused <= few:
            return
        if ceiling is None and not self._said_ceiling:
            self._said_ceiling = True
            self._news.append(
                f"refused within every known limit: the rate of {quantity.name} follows what is let through"
            )
        requests_per_s = lately.sent_per_s if ceiling is None or quantity is self._tokens else ceiling
        # What is older than the latest change says nothing of the rate that is tried now.
        longest = min(_TAKEN_S[1], now - quantity.ceiling.changed_at - _IN_FORCE_S)
        lately = self._window.over(max(_TAKEN_S[0], min(longest, _TAKEN_REQUESTS / max(requests_per_s, 1e-9))))
        unit = lately.tokens_of_one if quantity is self._tokens else 1.0
        if lately.sent:
            quantity.ceiling.refused(lately.taken_per_s * unit, lately.sent_per_s * unit, now)
        else:
            quantity.ceiling.refused(self._told, self._told, now)

    def _tokens_bind(self) -> bool:
        limit = self._tokens.per_minute
        if limit is None:
            return False
        lately = self._window.over(_USED_S)
        use = lately.sent_per_s * lately.tokens_of_one * _MINUTE_S / limit
        other = self._requests.per_minute
        return use >= _NEARLY and (other is None or use > lately.sent_per_s * _MINUTE_S / other)


def burst(rate: float) -> float:
    """Return what may be spent at once: a quarter of a second's worth, at least 1, and 2 where a second holds them."""
    return max(1.0, min(rate, max(_LEAST_BURST, rate * _BURST_S)))
