"""Input files -> shards and rows. Rows are counted from 0; a row is never held once its outcome is recorded."""
