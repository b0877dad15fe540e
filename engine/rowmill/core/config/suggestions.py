"""What somebody meant who wrote a key that is none: by other names that it goes by elsewhere, then by its letters."""

import difflib
from collections.abc import Mapping, Sequence

# Members of a request, which are keys of task.params: those that people write one section too high.
_MEMBERS = (
    "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "max_output_tokens", "seed",
    "stop", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
    "n", "tools", "tool_choice", "parallel_tool_calls", "reasoning_effort", "reasoning", "verbosity",
    "service_tier", "metadata", "dimensions", "extra_body", "web_search_options", "thinking", "chat_template_kwargs",
    "stream",
)  # fmt: skip
_ALSO = {  # key -> what it is called by other tools
    "input.path": "file filename input_file input_path source data dataset rows",
    "input.id": "id_column key_column custom_id row_id",
    "input.delimiter": "sep separator",
    "input.split": "subset",
    "task.model": "engine deployment deployment_name azure_deployment model_name llm",
    "task.prompt": "user_prompt question query user instruction",
    "task.system": "system_prompt system_message instructions",
    "task.schema": "json_schema response_format response_model output_schema response_schema",
    "task.rows_per_request": "batch_size rows_per_batch pack pack_size",
    "task.params": "parameters model_params request options model_kwargs generation_config sampling_params",
    "output.path": "output_file output_path out destination results",
    "output.include": "keep columns fields",
    "provider.base_url": "url api_base endpoint openai_api_base api_url server",
    "provider.preset": "vendor provider_type kind service",
    "provider.host": "resource resource_name azure_endpoint azure_resource hostname",
    "provider.api_version": "azure_api_version",
    "provider.api_key_env": "api_key key apikey openai_api_key token",
    "provider.requests_per_minute": "rpm rate_limit max_rpm requests_per_min max_requests_per_minute",
    "provider.tokens_per_minute": "tpm max_tpm tokens_per_min max_tokens_per_minute",
    "provider.requests_per_day": "rpd",
    "provider.tokens_per_day": "tpd",
    "provider.timeout_s": "timeout request_timeout timeout_seconds",
    "provider.stream": "streaming",
    "workers.count": "processes num_workers n_workers nproc",
    "workers.concurrency": "parallel parallelism max_concurrency threads in_flight max_parallel num_threads jobs",
    "retry.attempts": "retries max_retries max_attempts num_retries",
    "budget.max_usd": "max_cost cost_limit max_budget usd dollars max_dollars budget_usd",
    "checkpoint.dir": "run_dir checkpoint_dir resume_dir",
    "cache.dir": "cache_dir",
    "task.mode": "batch_mode",
    "notify.command": "exec hook run_command script",
    "notify.webhook": "webhook_url slack_url slack_webhook hook_url callback_url",
    "notify.url_env": "webhook_env webhook_url_env",
    "notify.on": "events when",
    "batch.deadline_s": "deadline completion_window",
}
_KEYS: Mapping[str, str] = {
    **{name: f"task.params.{name}" for name in _MEMBERS},
    **{name: key for key, names in _ALSO.items() for name in names.split()},
}
_SECTIONS = {
    name: section
    for section, names in {
        "input": "data source dataset rows inputs",
        "task": "model prompt request llm_task question tasks",
        "output": "results out outputs destination",
        "provider": "providers openai llm api server endpoint endpoints azure",
        "workers": "worker concurrency parallel",
        "retry": "retries",
        "prices": "price pricing cost costs",
        "budget": "limits budgets spend",
        "checkpoint": "checkpoints resume run",
        "cluster": "ray",
        "cache": "caching",
        "batch": "batches batch_api",
        "notify": "notifications notification alert alerts slack webhook hooks callbacks",
    }.items()
    for name in names.split()
}
_SURE, _LIKELY = 0.75, 0.5  # likeness of a word, from which on it is taken for a slip of the fingers


def key_for(name: str, every_key: Sequence[str]) -> str | None:
    """Return the key, as "section.key", that somebody means by a name alone; None where nobody can tell."""
    name = _plain(name)
    if name in _KEYS:
        return _KEYS[name]
    keys = _by_name(every_key)
    if name in keys:
        return keys[name]
    nearest = difflib.get_close_matches(name, [*keys, *_KEYS], n=1, cutoff=_SURE)
    return None if not nearest else keys.get(nearest[0]) or _KEYS[nearest[0]]


def key_instead(section: str, key: str, own: Sequence[str], every_key: Sequence[str]) -> str:
    """Return the key that somebody means who wrote `section.key`. own: those that the section has."""
    name = _plain(key)
    if name in own:  # written otherwise, as with dashes
        return f"{section}.{name}"
    if (known := _KEYS.get(name)) is not None:
        return known
    if nearest := difflib.get_close_matches(name, [*own, *_KEYS], n=1, cutoff=_SURE):
        return f"{section}.{nearest[0]}" if nearest[0] in own else _KEYS[nearest[0]]
    # The right name in the wrong section is a commoner slip than a wrong name.
    if (elsewhere := _by_name(every_key).get(name)) is not None:
        return elsewhere
    if nearest := difflib.get_close_matches(name, own, n=1, cutoff=_LIKELY):
        return f"{section}.{nearest[0]}"
    return difflib.get_close_matches(f"{section}.{name}", every_key, n=1, cutoff=0.0)[0]


def section_instead(section: str, sections: Sequence[str]) -> str | None:
    """Return the section that somebody means; None where nobody can tell."""
    name = _plain(section)
    if (known := _SECTIONS.get(name)) is not None and known in sections:
        return known
    nearest = difflib.get_close_matches(name, sections, n=1, cutoff=_LIKELY)
    return nearest[0] if nearest else None


def _by_name(keys: Sequence[str]) -> dict[str, str]:
    """Return keys by their names alone: the first one that has it."""
    return {key.rpartition(".")[2]: key for key in reversed(keys)}


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_")
