"""What survives a crash: durable files, checkpoints, sealed shards, the merge, and the run directory around them."""
