"""What a run tells monitoring: figures under names that Prometheus and OpenTelemetry know, scraped and pushed.

It takes in what the supervisor knows anyway, four times a second, and does nothing for a row. With `[metrics]` off
nothing of it is imported.
"""
