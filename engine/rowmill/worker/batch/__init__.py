"""The Batch API: the same rows, tasks, checkpoints and output as with the live API, at half the price.

How a part travels:

1. **Cut.** Rows without an outcome, from where the last part ended, become lines of one file (`parts`): at most so
   many requests, bytes and prompt tokens, and no more than the budget has left. Rows that cannot become a request fail
   here.
2. **Tried.** The file is uploaded, a batch is made of it, and its result files are downloaded once it is over. Each
   step is journaled before it is taken, so that a kill neither loses nor doubles a batch (`lifecycle`, `polling`).
3. **Collected.** The part's rows are read again, shard by shard, and each takes its line of the results (`collect`,
   `results`): an answer, a failure, or nothing yet. Outcomes go to the same checkpoints as those of the live API,
   through the same task and the same writer, so the output has the same bytes.
4. **Tried again.** Rows that are left without an outcome are written into the file of the part's next try.

Nothing is kept of which row is in which line: a line's custom_id says it (`custom_ids`), and checkpoints say which rows
have their outcome. So each step can be done again from its start, wherever a process was killed, and changes nothing
that is done.

`scheduler` does this for all parts side by side, as far as the `session` goes, the budget has room (`reservations`) and
the provider takes more tokens (`token_quota`). `files` has the shards for it, which are opened one at a time, for
building and for collecting (`shards`). Whatever is asked of the provider goes through the `client`.
"""

from rowmill.transport import lazy_types

lazy_types.load_lazily()  # before any module here imports the openai package
