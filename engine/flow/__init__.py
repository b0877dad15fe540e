"""How fast and how often: decisions only. Nothing here awaits, sends or reads a clock: the time is an argument.

Times are seconds of one monotonic clock.
"""
