"""What prep says on the console when a dataset is made: what was read, made and found, a few lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.folder import MANIFEST
from data_prep.table.reading import Table
from data_prep.task import SPLITS
from workspace.paths import shown


def print_outcome(table: Table, manifest: dict[str, Any], words: Sequence[str], out: Path) -> None:
    """A few lines on what was read, made and found."""
    counts = manifest["counts"]
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts["set_aside"].items() if reason != "total")
    encoding = f" ({table.encoding.name})" if table.encoding else ""
    print(
        f"prep: {shown(table.path)}{encoding}: {counts['rows']:,} rows, {counts['set_aside']['total']:,} set aside"
        + (f" ({reasons})" if reasons else "")
    )
    for name in SPLITS:
        labels = ", ".join(f"{word} {counts[name][word]:,}" for word in words)
        print(f"prep: {name:5} {counts[name]['total']:>9,} rows ({labels})")
    if counts["not_used"]["total"]:
        print(
            f"prep: {counts['not_used']['total']:,} rows are left out by the limit of {manifest['limit']:,} train rows"
        )
    near, exact = manifest["repeats"]["near"], manifest["repeats"]["exact"]
    fate = "any split" if manifest["scheme"] == "original" else "one split for each group"
    print(
        f"prep: {near['rows']:,} copies or near copies ({near['groups']:,} groups, {exact['groups']:,} exact): {fate}"
    )
    if leaked := sum(part["exact"] + part["near"] for part in manifest["leaks"].values()):
        print(f"prep: {leaked:,} times a row has a copy or near copy in another split (see leaks in {MANIFEST})")
    if manifest["corrections"]:
        print(_corrected(manifest["corrections"]))
    if known := manifest["known_public"]:
        print(f"prep: {known['test']['total']:,} test rows stand in {known['path']}, word for word or nearly")
    if manifest["cut"] is None:
        print("prep: lengths were not checked: give the model's folder with --model DIR")
    else:
        cut = manifest["cut"]["total"]
        print(f"prep: {cut:,} reviews cut to fit {manifest['max_length']:,} tokens, head and tail kept")
    for warning in manifest["warnings"]:
        print(f"prep: warning: {warning}")
    print(f"prep: written to {shown(out)}", flush=True)


def _corrected(found: dict[str, Any]) -> str:
    """What the corrections file did, in one line."""
    changed, other = found["changed"]["total"], found["not_applied"]["total"]
    line = f"prep: {changed:,} labels corrected by {found['path']}"
    if other:
        parts = ", ".join(f"{n:,} {name}" for name, n in found["not_applied"].items() if name != "total" and n)
        line += f"; {other:,} left as they were ({parts})"
    if groups := found["conflicts"]["groups"]:
        line += f"; {groups:,} texts stand under several labels now: correct their other rows too"
    return line
