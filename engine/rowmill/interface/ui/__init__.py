"""What the user sees: the progress of a run and its report. Reads snapshots, decides nothing."""
