"""How many requests in flight bring more: `control` reacts to losses, `search` climbs the hill of `goodput`."""
