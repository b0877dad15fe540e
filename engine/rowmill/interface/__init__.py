"""What people touch: the command, the calls from Python, and what both show of a run."""
