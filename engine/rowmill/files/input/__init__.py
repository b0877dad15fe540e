"""Input files -> shards and rows. Rows are counted from 0; a row is never held once its outcome is recorded.

`inputs` is the way in: it finds the files (`discovery`, `datasets`, `remote`), has what is no JSON Lines turned into it
(`conversion`, `spool`), and cuts all of it into shards that workers read. Whatever the file, a row is a line of bytes.
"""
