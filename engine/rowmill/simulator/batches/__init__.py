"""`/v1/files` and `/v1/batches`: OpenAI's Batch API, on disk and by the wall clock.

The theory:

- **A batch is an entry that a run brings forward.** Its life is the table in `objects`: validating, in_progress,
  finalizing, completed over the `batch_s` seconds of the settings, or one of the other ends. Every move is a line of
  the journal (`storage`), so that a new process over the same `state` goes on: it answers the unfinished batches' lines
  again, and since nothing here depends on the process, they get the same answers. Until a batch is over nobody can
  read its files, so nobody sees that they were written twice.
- **A line gets the answer of the live route**, byte for byte: replies are made from the bytes of its body.
- **Answers come in another order than the lines**: a line waits in a small buffer (`request_lines.shuffled`) until it
  is drawn.
- **What goes wrong is data**: one item of a script a batch (`words.batch_script`), one a file (`words.upload_script`),
  and shares of lines.
- **Memory is bounded.** Files are streamed to and from the disk; of a batch only a buffer of lines, its custom ids and
  eight bytes a line are held. Work is done a few milliseconds at a time, so that live requests are served meanwhile.

`words`, `objects`, `request_lines`, `results` and `figures` are plain computation; `storage` is the disk; `run` is one
batch at work, `upload` reads the form of an upload, and `api` answers the requests of one provider.

Known gaps: only bodies of the routes the simulator has; a file counts as one of "batch" where its purpose says so.
"""
