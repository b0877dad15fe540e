"""One provider's limits cut into leases: `allocator` at the supervisor's end, `lease` at a worker's, `bucket` in both.

The allocator keeps a `holder` for each worker, and `limit_shares` for each limit with the pool of what is not handed
out. `max_min` shares out by want, `rotation` says who goes first where there is not enough for all, `slots` shares out
the requests in flight, `capacity` is what there is to share.
"""
