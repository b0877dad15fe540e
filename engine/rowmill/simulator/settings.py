"""What settings of the right types can still get wrong."""

import re
from math import inf
from random import Random

from rowmill.core.simulator import NOT_NEGATIVE, SimulatorSettings
from rowmill.simulator.batches import words
from rowmill.simulator.faults import ContentPlan, FaultPlan
from rowmill.simulator.limits import EnforcedLimits

DEFAULT_PROVIDER = "default"  # the provider of plain /v1
PREFIX = re.compile(r"[A-Za-z0-9._-]+")  # what a path prefix is made of


def check(settings: SimulatorSettings, where: str = "") -> None:
    """Raise ValueError for settings that cannot be. `where` goes before the names of keys."""
    for key in NOT_NEGATIVE:
        if not 0 <= getattr(settings, key) < inf:
            raise ValueError(f"{where}{key} must be a number of 0 or more, not {getattr(settings, key)}")
    if settings.parallel is not None and settings.parallel < 1:
        raise ValueError(f"{where}parallel must be at least 1, not {settings.parallel}")
    if settings.queue is not None and settings.queue < 0:
        raise ValueError(f"{where}queue must be at least 0, not {settings.queue}")
    if settings.queue is not None and settings.parallel is None:
        raise ValueError(f"{where}queue needs {where}parallel: without it nothing waits")
    if settings.knee is not None and not 1 <= settings.knee < inf:
        raise ValueError(f"{where}knee must be at least 1, not {settings.knee}")
    if settings.batch_enqueued_tokens is not None and settings.batch_enqueued_tokens < 1:
        raise ValueError(f"{where}batch_enqueued_tokens must be at least 1, not {settings.batch_enqueued_tokens}")
    if where and settings.state is not None:
        raise ValueError(f"{where}state: a provider has no state of its own; set the one of all")
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
