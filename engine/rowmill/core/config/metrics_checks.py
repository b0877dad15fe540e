"""What `[metrics]` can still get wrong."""

from collections.abc import Iterator
from math import inf
from urllib.parse import urlsplit

from rowmill.core.config.sections import MetricsConfig

_PORTS = range(65536)


def problems(metrics: MetricsConfig) -> Iterator[str]:
    """Yield what is wrong, each as a line that begins with the key."""
    if metrics.port is not None and metrics.port not in _PORTS:
        yield "metrics.port: must be 1 to 65535, or 0 for any free one"
    if not metrics.host.strip() or "\0" in metrics.host:
        yield 'metrics.host: must be an address of this machine, as "127.0.0.1" or "0.0.0.0"'
    if not 0 <= metrics.linger_s < inf:
        yield "metrics.linger_s: must be 0 or more seconds"
    if metrics.interval_s is not None and not 0 < metrics.interval_s < inf:
        yield "metrics.interval_s: must be above 0 seconds"
    if metrics.otlp is not None and not _is_collector(metrics.otlp):
        yield (
            'metrics.otlp: must be the http:// or https:// URL of a collector, as "http://127.0.0.1:4318", '
            'or "environment"; a user and a password go into metrics.headers_env'
        )


def _is_collector(text: str) -> bool:
    if text == "environment":
        return True
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and "@" not in url.netloc and url.port != 0
    except ValueError:
        return False
