"""The rooms of the package and who imports whom, read from the source: `python scripts/rooms.py [PACKAGE]`.

A room is a folder of the package, or a file that lies loose in it. An arrow is that one room imports another, in a
function too; what is imported for types alone counts. A room stands one floor above the highest one that it imports;
rooms that import each other in a circle stand on one floor, and the arrows between them count as running up.
"""

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "engine" / "rowmill"
Arrows = dict[str, dict[str, int]]  # room -> room that it imports -> in how many of its files


def imported(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what an import statement binds: the local name, and the dotted one that it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            # "import a.b" binds a; "import a.b as c" binds c to a.b
            yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        assert node.module is not None
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def imports_of(tree: ast.Module) -> set[str]:
    """Return the dotted names that a module imports anywhere, names of what it takes from a module included."""
    found = {dotted for node in ast.walk(tree) for _, dotted in imported(node)}
    return found | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


def room_of(package: Path, file: Path) -> str:
    """Return the room in which a file of the package lies: "" for the package's own `__init__`."""
    first = file.relative_to(package).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def rooms_of(package: Path) -> Arrows:
    """Return every room of the package with what it imports. The package's own `__init__` is no room."""
    files = sorted(package.rglob("*.py"))
    arrows: Arrows = {room: {} for file in files if (room := room_of(package, file))}
    for file in files:
        room = room_of(package, file)
        inside = {
            name.split(".")[1]
            for name in imports_of(ast.parse(file.read_text(encoding="utf-8")))
            if name.startswith(f"{package.name}.")
        }
        for other in inside & set(arrows) - {room} if room else ():
            arrows[room][other] = arrows[room].get(other, 0) + 1
    return arrows


def circles(arrows: Arrows) -> list[set[str]]:
    """Return the groups of rooms that reach each other, none of one room alone."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        stack = [start]
        while stack:
            for other in arrows[stack.pop()]:
                if other not in seen:
                    seen.add(other)
                    stack.append(other)
        return seen

    reached = {room: reach(room) for room in arrows}
    found: list[set[str]] = []
    for room in arrows:
        group = {other for other in reached[room] if room in reached[other]} | {room}
        if len(group) > 1 and group not in found:
            found.append(group)
    return found


def floors(arrows: Arrows) -> dict[str, int]:
    """Return the floor of every room, from 1."""
    groups = circles(arrows)
    group_of = {room: next((group for group in groups if room in group), {room}) for room in arrows}
    known: dict[str, int] = {}

    def floor(room: str) -> int:
        if room not in known:
            group = group_of[room]
            below = {other for member in group for other in arrows[member]} - group
            height = 1 + max((floor(other) for other in below), default=0)
            known.update(dict.fromkeys(group, height))
        return known[room]

    return {room: floor(room) for room in arrows}


def drawn(package: Path) -> str:
    """Return the rooms from the top floor down, each with what it imports, and the figures of all of them."""
    arrows = rooms_of(package)
    height = floors(arrows)
    groups = circles(arrows)
    up = sum(other in group for group in groups for room in group for other in arrows[room])
    lines = []
    for room in sorted(arrows, key=lambda room: (-height[room], room)):
        below = ", ".join(sorted(arrows[room], key=lambda other: (-height[other], other)))
        lines.append(f"floor {height[room]:>2}  {room:<12} -> {below or 'nothing'}")
    count = sum(len(others) for others in arrows.values())
    lines.append(
        f"{len(arrows)} rooms on {max(height.values())} floors, {count} arrows, {up} of them up, {len(groups)} circles"
    )
    return "\n".join(lines)


def main() -> None:
    """Print the rooms."""
    parser = argparse.ArgumentParser(description="Prints the rooms of the package and who imports whom.")
    parser.add_argument("package", nargs="?", type=Path, default=PACKAGE, help="the package's folder")
    print(drawn(parser.parse_args().package.resolve()))


if __name__ == "__main__":
    main()
