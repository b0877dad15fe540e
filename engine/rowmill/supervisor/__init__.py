"""The one process that plans the input, assigns shards, watches the workers and merges. It never touches a row.

`loop` is the process: it starts workers (`pool`), hands out `shards` and takes them back sealed, divides what the
`providers` and the budget (`spending`) let through, and ends as `shutdown` says. Blocking work is done in `threads`,
which leave what came of it in the `mailbox`. What a session starts from is `prepared`.
"""
