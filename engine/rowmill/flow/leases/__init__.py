"""One provider's budget cut into leases: `book` at the supervisor's end, `slice` at a worker's, `bucket` under both.

The book keeps a `holder` for each worker, and a `quota` for each limit with the pot of what is not handed out.
`division` shares out by want, `turns` says who goes first where there is not enough for all, `slots` shares out the
requests in flight, `capacity` is what there is to share.
"""
