"""Values that everybody may import: plain data, hardly any behaviour, no I/O.

A row's way in these words: a `Shard` of `rows` is planned, its lines become `Request`s (`wire`), a `Request` is sent
under a `Lease` (`leases`) and answered by a `Reply`, which is an `Answer` or a `Failure`, and every row ends as exactly
one outcome, which `counts` and `amounts` add up and `reports` tell. `config` is what the user wants; `plan` what
`rowmill plan` says; `output_codec` what an output format is; `errors` what ends a run.
"""
