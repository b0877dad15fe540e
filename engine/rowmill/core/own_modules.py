"""How an interpreter that this one starts finds this package, and the modules that this one has."""

import sys
from pathlib import Path

PACKAGES = str(Path(__file__).parents[2])  # where this package lies

# Run with `-P`, which keeps the current directory out of the path until then, so that no file of the user's is taken
# for a module of the standard library. `here, path` are `PACKAGES` and what `module_path` returns. The package comes
# first and by itself: from then on its modules are looked for in its own folder, and are its parent's.
FOUND = "sys.path.insert(0, here); import rowmill; sys.path[:] = path; "


def module_path() -> list[str]:
    """Return where a child finds modules: as here, but the folder of the program, which stands first, comes last.

    A script called openai.py would be taken for the package of that name, and be run once more.
    """
    path = [each for each in sys.path if isinstance(each, str)]
    return path if sys.flags.safe_path else [*path[1:], *path[:1]]
