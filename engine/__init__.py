"""Rowmill: a file of rows in, a file of model replies out, in order, none lost, none paid for twice."""

__version__ = "0.1.0"
