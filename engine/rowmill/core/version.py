"""The version of the distribution, told in one place."""

__version__ = "0.1.0"
