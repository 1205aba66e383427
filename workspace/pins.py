"""Check the installed packages against a file of exact pins.

Run as: python -m workspace.pins requirements.txt

Exit status 0 when every pin is met; otherwise 1, with a line for each miss.
"""

import argparse
import importlib.metadata
import re
import sys
from pathlib import Path


def misses(path: Path) -> list[str]:
    """The pins in `path` (and the files it includes with -r) that the running Python does not meet, in words."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            found += misses(path.parent / line[3:].strip())
        elif line:
            name, _, version = (part.strip() for part in line.partition("=="))
            name = re.sub(r"\[.*\]", "", name)
            try:
                # torch 2.13.0+cpu meets torch==2.13.0: the part behind + names the build.
                installed = importlib.metadata.version(name).split("+")[0]
            except importlib.metadata.PackageNotFoundError:
                installed = "missing"
            if installed != version:
                found.append(f"{name}: {installed}, wanted {version}")
    return found


def main() -> int:
    """Print every miss; 1 when there are any."""
    parser = argparse.ArgumentParser(prog="python -m workspace.pins", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a requirements file of exact pins (name==version)")
    lines = misses(parser.parse_args().file)
    print("\n".join(lines))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
