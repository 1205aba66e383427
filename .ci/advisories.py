"""Published advisories (advisories.yaml) against the versions that the requirements and lock files name. Works offline.

Run as: python .ci/advisories.py [FILE ...]

Exit status 1 where one is open: the version is affected, or the advisory names no versions, and it is not among the
exact versions whose code was read (`accepted`).
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LIST = Path(__file__).with_name("advisories.yaml")
ROOT = LIST.parent.parent


def pinned(text: str) -> dict[str, str]:
    """Package to version, of the text of a requirements or lock file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s\\;#]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def affecting(versions: Mapping[str, str], advisories: Sequence[dict[str, Any]]) -> list[tuple[bool, str]]:
    """The advisories on `versions`: whether each is open, and the sentence for a person."""
    found = []
    for one in advisories:
        version = versions.get(canonicalize_name(one["package"]))
        if version is None or not SpecifierSet(one["affected"] or "").contains(version.split("+")[0], prereleases=True):
            continue
        accepted = version.split("+")[0] in map(str, one.get("accepted", ()))
        state = f"accepted: {one['here']}" if accepted else f"open: take another version, see {one['source']}"
        found.append((not accepted, f"{one['id']} in {one['package']} {version} ({one['what']}): {state}"))
    return found


def main(files: Sequence[str]) -> int:
    """Print what affects the pins; 1 when something is open."""
    advisories = yaml.safe_load(LIST.read_text(encoding="utf-8"))
    paths = [Path(file) for file in files] or [*ROOT.glob("requirements*.txt"), *ROOT.glob("requirements*.lock")]
    found = {one for path in paths for one in affecting(pinned(path.read_text(encoding="utf-8")), advisories)}
    print("\n".join(line for _, line in sorted(found)))
    opened = sum(is_open for is_open, _ in found)
    print(f"{len(advisories)} advisories, {opened} open, {len(found) - opened} accepted")
    return int(opened > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
