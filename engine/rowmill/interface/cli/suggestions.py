"""What somebody meant who typed a command or a flag that is none: by what other tools call it, then by its letters."""

import difflib
from collections.abc import Iterable, Mapping

_COMMANDS = {  # name -> what it is called elsewhere
    "run": "resume start go continue execute",
    "map": "ask apply prompt infer generate complete classify pipe",
    "retry": "rerun redo retry-failed",
    "check": "validate verify test ping doctor preflight lint",
    "plan": "estimate cost price dry-run dryrun quote count",
    "cancel": "stop abort kill",
    "runs": "ls list status ps history",
    "clean": "rm prune gc purge delete cleanup",
    "init": "new create template recipe recipes",
    "simulate": "simulator serve server mock",
    "completion": "completions generate-shell-completion shell-completion autocomplete",
}
_FLAGS = {
    "--limit": "rows head first max-rows num n number",
    "--sample": "random sample-size",
    "--fresh": "force overwrite restart reset from-scratch new clean no-resume",
    "--salvage": "repair recover",
    "--json": "format-json as-json",
    "--quiet": "silent no-progress",
    "--verbose": "debug log-level",
    "--retry": "retry-failed",
    "--output": "out output-file output-path",
    "--prompt": "user-prompt template question",
    "--system": "system-prompt system-message instructions",
    "--schema": "json-schema response-format",
    "--model": "engine deployment",
    "--base-url": "url api-base endpoint host",
    "--api-key-env": "api-key key token",
    "--max-usd": "budget max-cost cost-limit",
    "--set": "config-override override option define",
    "--version": "ver",
}
_BY_NAME = {other: name for name, others in _COMMANDS.items() for other in others.split()}
_BY_FLAG = {other: flag for flag, others in _FLAGS.items() for other in others.split()}


def command_instead(word: str, commands: Iterable[str]) -> str | None:
    """Return the command that somebody means; None where nobody can tell."""
    commands = list(commands)
    if (known := _BY_NAME.get(word.lower())) in commands:
        return known
    if word.lower() == "version":
        return "--version"
    nearest = difflib.get_close_matches(word.lower(), [*commands, *_BY_NAME], n=1, cutoff=0.6)
    found = _BY_NAME.get(nearest[0], nearest[0]) if nearest else None
    return found if found in commands else None


def flag_instead(flag: str, value: str | None, flags: Iterable[str], *, sets: bool) -> str | None:
    """Return what somebody means by a flag; None where nobody can tell.

    value: what followed it. flags: those that the command has. sets: it takes keys of a configuration.
    """
    name, equals, own = flag.lstrip("-").partition("=")
    name, value, flags = name.lower(), own if equals else value, list(flags)
    if (known := _BY_FLAG.get(name.replace("_", "-"))) in flags:
        return known
    nearest = difflib.get_close_matches(f"--{name.replace('_', '-')}", flags, n=1, cutoff=0.8)
    if nearest:
        return nearest[0]
    if sets:
        from rowmill.core.config import reading, suggestions  # costs a start, and is needed after a mistake only

        keys = reading.every_key()
        key = name.replace("-", "_") if name.replace("-", "_") in keys else suggestions.key_for(name, keys)
        if key is not None:
            return f"--set {key}={value or '...'}"
    nearest = difflib.get_close_matches(f"--{name}", flags, n=1, cutoff=0.6)
    return nearest[0] if nearest else None


def in_error(message: str, words: list[str], commands: Mapping[str, Iterable[str]]) -> str | None:
    """Return what to say below an error of the command line; None where nothing helps.

    words: the command line. commands: the flags of each command.
    """
    command = next((word for word in words if word in commands), None)
    if command is None:
        word = next((word for word in words if not word.startswith("-")), None)
        instead = None if word is None else command_instead(word, commands)
        return None if instead is None else f"did you mean rowmill {instead}?"
    if "unrecognized arguments: " not in message:
        return None
    flag = next((word for word in message.partition("arguments: ")[2].split() if word.startswith("-")), None)
    if flag is None:
        return None
    place = next((number for number, word in enumerate(words) if word == flag), len(words))
    following = words[place + 1] if place + 1 < len(words) and not words[place + 1].startswith("-") else None
    flags = list(commands[command])
    instead = flag_instead(flag, following, flags, sets="--set" in flags)
    if instead is None and flag == "--dry-run":
        instead = "rowmill plan"
    return None if instead is None else f"did you mean {instead}?"
