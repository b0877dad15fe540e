"""What settings of the right types can still get wrong."""

import re
from math import inf
from random import Random

from rowmill.core.simulator import NOT_NEGATIVE, SimulatorSettings
from rowmill.simulator.batches import words
from rowmill.simulator.faults import ContentPlan, FaultPlan
from rowmill.simulator.limits import EnforcedLimits
from rowmill.simulator.refusals import NAMES

DEFAULT_PROVIDER = "default"  # the provider of plain /v1
PREFIX = re.compile(r"[A-Za-z0-9._-]+")  # what a path prefix is made of
_LEAST = {"parallel": 1, "queue": 0, "knee": 1, "batch_enqueued_tokens": 1}  # where they are set


def check(settings: SimulatorSettings, where: str = "") -> None:
    """Raise ValueError for settings that cannot be. `where` goes before the names of keys."""
    for key in NOT_NEGATIVE:
        if not 0 <= getattr(settings, key) < inf:
            raise ValueError(f"{where}{key} must be a number of 0 or more, not {getattr(settings, key)}")
    for key, least in _LEAST.items():
        value = getattr(settings, key)
        if value is not None and not least <= value < inf:
            raise ValueError(f"{where}{key} must be at least {least}, not {value}")
    if settings.queue is not None and settings.parallel is None:
        raise ValueError(f"{where}queue needs {where}parallel: without it nothing waits")
    if where and settings.state is not None:
        raise ValueError(f"{where}state: a provider has no state of its own; set the one of all")
    for name in settings.refuse:
        if name not in NAMES:
            raise ValueError(f"{where}refuse: {name!r} is nothing that can be refused; these are: {', '.join(NAMES)}")
    for item in settings.batch_script:
        words.batch_script(item)
    for item in settings.upload_script:
        words.upload_script(item)
    words.line_faults(settings.batch_faults, Random(0))  # noqa: S311 - only to have names and shares checked
    FaultPlan(settings, Random(0))  # noqa: S311 - the same
    ContentPlan(settings, Random(0))  # noqa: S311 - the same
    EnforcedLimits(settings.requests_per_minute, settings.tokens_per_minute)
    for name, own in settings.providers.items():
        if where:
            raise ValueError(f"{where}providers: a provider has no providers of its own")
        if not PREFIX.fullmatch(name):
            raise ValueError(f"providers: {name!r} is no path prefix: letters, digits, '.', '_' and '-'")
        check(own, f"providers.{name}.")
