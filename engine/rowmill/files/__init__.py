"""Rows in, rows out: `input` finds and reads files, `output` writes them, `remote` reaches those on other machines."""
