"""What makes two requests the same: everything that determines the reply, in 16 bytes.

A key is BLAKE2b over a salt and the body of the request. The salt stands for all that is not in the body: the API, who
is asked, what of the reply is kept, and what a reply must fit. At 16 bytes the chance that any two of 10**9 different
requests share a key is below 10**-20.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from rowmill.core.config import Config
from rowmill.core.config.sections import ModelSchema

KEY_BYTES = 16
_VERSION = 1  # of what goes into a key; with another one no older reply is found


def salt(config: Config) -> bytes:
    """Return the salt of a run's keys, 32 bytes: all that is the same for its rows.

    `config` is the prepared one: its formats are settled, and `task.schema` is the schema itself.
    """
    task = config.task
    schema = task.schema.identity if isinstance(task.schema, ModelSchema) else task.schema
    determined_by: dict[str, Any] = {
        "version": _VERSION,
        "api": task.api,
        "asked": sorted((provider.base_url, config.model_of(provider) or "") for provider in config.provider),
        "schema": schema,
        "whole": config.output.format == "batch",  # then an answer is the whole reply
    }
    if task.strict_json:  # left out where it is not, as before there was such a key
        determined_by["strict"] = True
    if config.minds_ends:  # likewise: an answer may have had more tokens than was asked for
        determined_by["finish"] = [config.retry.on_finish, config.retry.max_tokens_factor, task.fail_on_finish]
    if config.output.parts:  # left out likewise: a reply that was kept without them has none
        determined_by["parts"] = config.output.parts
    if task.params.get("n", 1) != 1:
        determined_by["choices"] = "all"
    if task.api == "embeddings" or task.rows_per_request not in {1, "auto"}:
        # What is built of a row is then only its piece of a request: what the request says beside it counts too.
        determined_by["packed"] = msgspec.to_builtins(
            msgspec.structs.replace(task, rows_per_request=1, schema=task.reply_schema)
        )
    return hashlib.blake2b(msgspec.json.encode(determined_by, order="deterministic"), digest_size=32).digest()


def keying(salt: bytes) -> Callable[[bytes], bytes]:
    """Return what turns the body of a request into its key."""
    start = hashlib.blake2b(salt, digest_size=KEY_BYTES)

    def key(body: bytes) -> bytes:
        state = start.copy()
        state.update(body)
        return state.digest()

    return key
