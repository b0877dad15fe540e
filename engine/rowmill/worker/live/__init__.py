"""A worker of live requests, and a row's way through it.

`process` is the worker. The `feeder` reads rows and builds their requests; the `backlog` holds those in hand, the
`dispatcher` takes the next one when there is a slot, when the budget covers it (`reservations`) and when the `router`
finds a `provider` that may send; the `settler` decides what a reply means; the `committer` brings what was recorded to
the disk. Slots without work wait in the `parking_lot`; rows that ask the same are asked once by `dedup`.
"""
