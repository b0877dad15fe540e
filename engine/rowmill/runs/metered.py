"""The metrics of a run, where `[metrics]` asks for them: what they are of, and what no label may show."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rowmill.supervisor.prepared import Prepared

if TYPE_CHECKING:  # who has no metrics need not load them
    from rowmill.metrics.monitoring import Monitoring

_INTERVAL_S = 60.0  # between two pushes, as OpenTelemetry has it


@contextmanager
def metered(
    prepared: Prepared, environ: Mapping[str, str], log: Callable[[str], None]
) -> Iterator["Monitoring | None"]:
    """Begin to tell monitoring of a run; None where nobody asks for it. It ends with the context, after a last push.

    Raises `ConfigError` where a variable of metrics.headers_env is not set, or nothing can listen at metrics.host.
    """
    settings = prepared.config.metrics
    if not settings.used:
        yield None
        return
    from rowmill.core.config import credentials
    from rowmill.metrics.labels import operation, provider
    from rowmill.metrics.monitoring import Monitoring
    from rowmill.metrics.readings import MeteredProvider, MeteredRun
    from rowmill.supervisor.lingering import lingering
    from rowmill.transport import faults, is_loopback

    config = prepared.config
    headers = credentials.metrics_headers(settings, environ)
    secrets = [*prepared.secrets, *headers.values()]
    redact = partial(faults.redacted, secrets=secrets)
    subject = MeteredRun(
        run=prepared.manifest.run_id,
        input=redact(_name(config.input.path)),
        providers=tuple(
            MeteredProvider(
                name=each.name,
                word=provider(each.name, each.base_url),
                model=step.config.model_of(each) or "",
                operation=operation(step.config.task.api),
            )
            for step in prepared.steps
            for each in step.config.provider
        ),
        faults=tuple(faults.TABLE),
    )
    with Monitoring(
        settings,
        subject,
        headers=headers,
        interval_s=settings.interval_s or _environment_interval_s(environ),
        pushes=environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true",
        past_proxies=is_loopback(_collector(settings.otlp, environ)),  # no proxy reaches this machine's own
        redact=redact,
        log=log,
        lingering=lingering,
    ) as monitoring:
        yield monitoring


def _name(path: str) -> str:
    """Return the name of a file, without what stands before and behind it in a URL."""
    if "://" in path:
        path = path.partition("?")[0].partition("#")[0].rpartition("@")[2]
    return path.rstrip("/").rpartition("/")[2]


def _collector(url: str | None, environ: Mapping[str, str]) -> str:
    """Return the URL of who is pushed to, which may stand in OpenTelemetry's variables."""
    if url != "environment":
        return url or ""
    named = (environ.get(f"OTEL_EXPORTER_OTLP_{each}ENDPOINT", "").strip() for each in ("METRICS_", ""))
    return next(filter(None, named), "http://localhost:4318")


def _environment_interval_s(environ: Mapping[str, str]) -> float:
    """Return the seconds between two pushes, as OpenTelemetry's variable has them, in milliseconds."""
    try:
        milliseconds = float(environ.get("OTEL_METRIC_EXPORT_INTERVAL", ""))
    except ValueError:
        return _INTERVAL_S
    return milliseconds / 1000 if 1 <= milliseconds < float("inf") else _INTERVAL_S
