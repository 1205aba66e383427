"""Draw the rooms of this checkout: lines of Python in each folder, and which room imports which.

Run as: python docs/draw_rooms.py [GIT_REVISION]; prints Markdown. tests/test_rooms.py holds the arrows against ORDER.
"""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A room imports those before it, never those after it. The plugins are loaded by ms-swift and import nothing of ours.
ORDER = ("plugins", "workspace", "data_prep", "hub", "demo", "plan", "train", "eval", "serve", "doctor", "bench")


def sources(revision: str | None = None) -> dict[str, str]:
    """Path below the checkout -> text, of every Python file that is no test; of a git revision, or as on disk."""
    command = (
        ["git", "ls-tree", "-r", "--name-only", revision]
        if revision
        else ["git", "ls-files", "-co", "--exclude-standard"]
    )
    names = [
        name
        for name in _git(*command[1:]).splitlines()
        if name.endswith(".py") and not name.startswith(("tests/", "."))
    ]
    if revision:
        return {name: _git("show", f"{revision}:{name}") for name in names}
    return {name: (ROOT / name).read_text(encoding="utf-8") for name in names if (ROOT / name).is_file()}


def room_of(path: str, deep: bool = False) -> str:
    """The folder a file is in: the top one, or with `deep` the one that holds it."""
    parts = Path(path).parent.parts
    return "/".join(parts if deep else parts[:1])


def imports(files: dict[str, str]) -> Counter[tuple[str, str]]:
    """(room, imported room) -> how many import statements, between the rooms of the project."""
    rooms = {room_of(path) for path in files if "/" in path}
    found: Counter[tuple[str, str]] = Counter()
    for path, text in files.items():
        for node in ast.walk(ast.parse(text)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for target in (name.split(".")[0] for name in names):
                if target in rooms and "/" in path and target != room_of(path):
                    found[room_of(path), target] += 1
    return found


def drawing(files: dict[str, str]) -> str:
    """A table of rooms and a Mermaid graph of the imports between them."""
    modules = Counter(room_of(path, deep=True) for path in files if "/" in path)
    lines = Counter({room: 0 for room in modules})
    for path, text in files.items():
        if "/" in path:
            lines[room_of(path, deep=True)] += len(text.splitlines())
    rows = [f"| {room}/ | {modules[room]} | {lines[room]:,} |" for room in sorted(modules)]
    arrows = [f"  {a} -->|{count}| {b}" for (a, b), count in sorted(imports(files).items())]
    total = f"| all | {sum(modules.values())} | {sum(lines.values()):,} |"
    return "\n".join(
        ["| room | modules | lines |", "|---|--:|--:|", *rows, total, "", "```mermaid", "graph TD", *arrows, "```"]
    )


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    print(drawing(sources(sys.argv[1] if len(sys.argv) > 1 else None)))
