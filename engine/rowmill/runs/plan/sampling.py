"""What a sample says of the whole, and how far it may be off. Ranges hold in 19 of 20 cases.

See Cochran, Sampling Techniques (1977): ratio estimates of cluster samples (chapters 6 and 9), regression estimates
(chapter 7).
"""

from collections.abc import Sequence
from math import sqrt

from rowmill.core.plan import Range

_CLEARLY = 3.0  # standard errors by which a slope must differ from 0 to be used
_FEW = 10  # points, below which no line is laid through them
_PAIR = 2


def spread_of_clusters(totals: Sequence[float], sizes: Sequence[float], share: float) -> float:
    """Return how far a mean over clusters may be off, as a part of it.

    totals, sizes: of the sampled clusters. share: of all clusters, those that are sampled.
    """
    count, whole, size = len(totals), sum(totals), sum(sizes)
    if count < _PAIR or not whole or share >= 1.0:
        return 0.0
    mean = whole / size
    residuals = sum((total - mean * rows) ** 2 for total, rows in zip(totals, sizes, strict=True))
    return _quantile(count - 1) * sqrt((1.0 - share) * count / (count - 1) * residuals) / whole


def regressed(known: Sequence[float], measured: Sequence[float], mean: float, count: float) -> Range:
    """Return the sum of what was measured on a random sample, over the whole.

    known: of the sample's units, what is known of all units, and is `mean` on the average. count: all units. A line
    through the points is used only where it clearly helps; else the mean of what was measured is that of all.
    """
    points = len(known)
    x, y = sum(known) / points, sum(measured) / points
    dx = sum((each - x) ** 2 for each in known)
    dy = sum((each - y) ** 2 for each in measured)
    slope, residuals, freedom, lever = 0.0, dy, points - 1, 1.0 / points
    if points >= _FEW and dx > 0:
        steep = sum((a - x) * (b - y) for a, b in zip(known, measured, strict=True)) / dx
        left = max(0.0, dy - steep**2 * dx)
        if abs(steep) > _CLEARLY * sqrt(left / (points - 2) / dx):
            slope, residuals, freedom = steep, left, points - 2
            lever += (mean - x) ** 2 / dx
    likely = max(0.0, y + slope * (mean - x)) * count
    unseen = max(0.0, 1.0 - points / count) if count else 0.0
    half = _quantile(freedom) * sqrt(unseen * lever * residuals / freedom) * count if freedom > 0 else likely
    return Range(max(0.0, likely - half), likely, likely + half)


def proportional(known: Sequence[float], measured: Sequence[float], mean: float, count: float) -> Range:
    """Return the same, with what was measured taken to be in proportion to what is known: for very few points."""
    whole = sum(known)
    if not whole:
        return regressed(known, measured, mean, count)
    ratio, points = sum(measured) / whole, len(known)
    likely = ratio * mean * count
    residuals = sum((b - ratio * a) ** 2 for a, b in zip(known, measured, strict=True))
    half = likely if points < _PAIR else _quantile(points - 1) * sqrt(residuals / (points - 1) / points) * count
    return Range(max(0.0, likely - half), likely, likely + half)


def fitted(known: Sequence[float], measured: Sequence[float], mean: float, count: float) -> Range:
    """Return the sum over the whole of what grows with what is known, by the better of the two."""
    return (proportional if len(known) < _FEW else regressed)(known, measured, mean, count)


def widened(range_: Range, part: float) -> Range:
    """Return a range that may also be off by a part of itself, for another reason."""
    low, high = range_.likely - range_.low, range_.high - range_.likely
    more = range_.likely * part
    return Range(
        max(0.0, range_.likely - sqrt(low**2 + more**2)), range_.likely, range_.likely + sqrt(high**2 + more**2)
    )


def _quantile(freedom: int) -> float:
    """Return about Student's t for 95%, by the first terms of its expansion (Abramowitz and Stegun 26.7.5)."""
    z = 1.96
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
