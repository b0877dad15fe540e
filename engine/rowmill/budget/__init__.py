"""What the whole run may spend: the `allocator` at the supervisor's end hands out `credit`, which each worker spends.

The supervisor keeps an `account` for each worker process. What a request will cost is said by a `cost_estimate`, before
its reply says what it did. `prices` are those of the configuration and, for the rest, `published` ones; by them `cost`
says what spending comes to, and the `ledger` keeps it over all sessions.
"""
