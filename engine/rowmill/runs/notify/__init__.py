"""Telling people how a run goes who do not look: by a program of theirs, or by a webhook. See `[notify]`."""
