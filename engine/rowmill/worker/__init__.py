"""The processes that ask: `live`, a pool of them, or `batch`, one that asks by the Batch API.

Both are `supervised` alike, read their shards' rows themselves, make `job`s of them, put several into one request
(`packs`), have the same `failures` of what comes back, and append every outcome to the shard's checkpoint
(`outcome_writer`).
"""
