"""Published holes against the versions in use: the installed ones, or those that files of pins name. Works offline.

Run as: python -m workspace.holes [requirements.txt requirements.lock ...]

Without files the installed versions are looked at. Exit status 1 where a hole is open: the version is affected, or the
advisory does not say, and nobody has read its code.
"""

import argparse
import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from workspace.errors import UserError, run_main
from workspace.paths import ROOT, shown

LIST = ROOT / "workspace" / "known_holes.yaml"
KEYS = {"id", "package", "affected", "what", "here", "source"}


class Hole(NamedTuple):
    """One advisory. `affected` is a PEP 440 specifier, None where the advisory names no versions.

    `accepted` are exact versions whose code was read and in which the hole is not reached from here.
    """

    id: str
    package: str
    affected: str | None
    accepted: tuple[str, ...]
    what: str
    here: str
    source: str


class Found(NamedTuple):
    """A hole in a version that is in use. It is open unless it was accepted for this very version."""

    hole: Hole
    version: str
    open: bool

    def line(self) -> str:
        """The sentence for a person."""
        hole = self.hole
        if not self.open:
            return f"accepted: {hole.id} in {hole.package} {self.version} ({hole.what}): {hole.here}"
        unknown = "" if hole.affected else ", and the advisory does not say which versions"
        return (
            f"open: {hole.id} in {hole.package} {self.version} ({hole.what}){unknown}: "
            f"take a version that is not affected, see {hole.source}"
        )


def read_holes(path: Path = LIST) -> list[Hole]:
    """The holes of the list. Raises `UserError` where an entry lacks a key or its specifier cannot be read."""
    import yaml
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    holes = []
    for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), 1):
        if lacking := KEYS - set(entry):
            raise UserError(f"{shown(path)}, entry {number}: {', '.join(sorted(lacking))} is missing: add it")
        try:
            SpecifierSet(entry["affected"] or "")
        except InvalidSpecifier as error:
            raise UserError(f"{shown(path)}, entry {number}: affected: {error}: write it as in PEP 440") from error
        accepted = tuple(str(version) for version in entry.get("accepted", ()))
        holes.append(Hole(accepted=accepted, **{key: entry[key] for key in KEYS}))
    return holes


def find(versions: Mapping[str, str], holes: Sequence[Hole]) -> list[Found]:
    """The holes in `versions` (package to version), open ones first."""
    from packaging.specifiers import SpecifierSet

    own = {canonical(name): version.split("+")[0] for name, version in versions.items()}
    found = []
    for hole in holes:
        version = own.get(canonical(hole.package))
        if version and (hole.affected is None or SpecifierSet(hole.affected).contains(version, prereleases=True)):
            found.append(Found(hole, version, version not in hole.accepted))
    return sorted(found, key=lambda one: not one.open)


def canonical(name: str) -> str:
    """A package's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed(holes: Sequence[Hole]) -> dict[str, str]:
    """The installed versions of the packages that `holes` speak of."""
    versions: dict[str, Any] = {}
    for hole in holes:
        try:
            versions[hole.package] = importlib.metadata.version(hole.package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def pinned(path: Path) -> dict[str, str]:
    """What a file of pins or a lock file names: package to version. Raises `UserError` where it names none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{shown(path)} cannot be read ({error.strerror}): name a file of pins") from error
    found = dict(re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*==\s*([^\s\\;#]+)", text, re.MULTILINE))
    if not found:
        raise UserError(f"{shown(path)} pins nothing (name==version): name a file of pins")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print the holes; 1 when one is open."""
    parser = argparse.ArgumentParser(prog="python -m workspace.holes", description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="files of pins, lock files")
    files, holes = parser.parse_args(argv).files, read_holes()
    is_open = False
    for name, versions in {str(path): pinned(path) for path in files}.items() if files else [("", installed(holes))]:
        found = find(versions, holes)
        for one in found:
            print(f"{name + ': ' if name else ''}{one.line()}")
        counted = sum(one.open for one in found)
        is_open = is_open or bool(counted)
        told = f"{len(holes)} known holes looked for, {counted} open, {len(found) - counted} accepted"
        print(f"{name or 'installed'}: {told}")
    return int(is_open)


if __name__ == "__main__":
    run_main(main)
