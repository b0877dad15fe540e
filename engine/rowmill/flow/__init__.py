"""How fast and how often: decisions only. Nothing here awaits, sends or reads a clock: the time is an argument.

Times are seconds of one monotonic clock. At the supervisor's end a `controller` for each provider brings together its
`traffic`, its `limits`, its `concurrency`, its `breaker` and the `pause` it asks for, and divides what comes of it by
`leases`. At a worker's end are the client-side `lease`, and `retry`: whether, when and how often a failed row is tried
again. A run by batches is told by `deadline` when to go over to live requests.
"""
