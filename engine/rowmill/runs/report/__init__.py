"""The report of a run as a page shows it: one document, made of what lies in the run directory, which is only read."""
