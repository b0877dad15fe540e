"""Rowmill in a Python program: `run` and `map`, and the rows and tables that they take and give back."""
