"""What prep prints of a dataset: lines from its manifest."""

from pathlib import Path

from data_prep.card.pictures import CLASSES_SHOWN, shown_labels
from data_prep.manifest import MANIFEST, CorrectionCounts, Manifest
from data_prep.task import SPLITS
from workspace.paths import shown


def summary(manifest: Manifest, table: Path, out: Path) -> list[str]:
    """What is printed of the dataset in `out`, made from the file `table`: lines from its manifest."""
    counts, encoding = manifest.counts, manifest.source.encoding
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts.set_aside.items() if reason != "total")
    lines = [
        f"{shown(table)}{f' ({encoding})' if encoding else ''}: {counts.rows:,} rows, "
        f"{counts.set_aside['total']:,} set aside{f' ({reasons})' if reasons else ''}"
    ]
    if counts.left_out:
        values = ", ".join(f"{value!r} {n:,}" for value, n in counts.left_out.items())
        lines.append(f"{sum(counts.left_out.values()):,} rows are left out by their label ({values})")
    for name in SPLITS:
        rows = counts.of(name)
        labels = ", ".join(f"{label} {rows[label]:,}" for label in shown_labels(manifest))
        labels += ", …" if len(manifest.labels) > CLASSES_SHOWN else ""
        lines.append(f"{name:5} {rows['total']:>9,} rows ({labels})")
    if unused := counts.not_used["total"]:
        lines.append(f"{unused:,} rows are left out by the limit of {manifest.limit:,} train rows")
    near, exact = manifest.duplicates.near, manifest.duplicates.exact
    fate = "one split for each group" if manifest.scheme == "stratified" else "any split"
    lines.append(f"{near.rows:,} copies or near copies ({near.groups:,} groups, {exact.groups:,} exact): {fate}")
    if leaked := sum(leak.exact + leak.near for leak in manifest.leaks.values()):
        lines.append(f"{leaked:,} times a row has a copy or near copy in another split (see leaks in {MANIFEST})")
    if manifest.corrections:
        lines.append(_corrected(manifest.corrections))
    if added := manifest.added:
        lines.append(f"lines of `added`: {', '.join(f'{count:,} {what}' for what, count in added.items())}")
    if known := manifest.known_public:
        lines.append(f"{known.test['total']:,} test rows occur in {known.path}, word for word or nearly")
    if manifest.cut is None:
        lines.append("lengths were not checked: give the model's folder with --model DIR")
    else:
        lines.append(f"{manifest.cut.total:,} reviews cut to fit {manifest.max_length:,} tokens, head and tail kept")
    lines += [f"warning: {warning}" for warning in manifest.warnings]
    return [f"prep: {line}" for line in (*lines, f"written to {shown(out)}")]


def _corrected(corrections: CorrectionCounts) -> str:
    """What the corrections file did, in one line."""
    line = f"{corrections.changed['total']:,} labels corrected by {corrections.path}"
    if other := corrections.not_applied["total"]:
        parts = ", ".join(f"{n:,} {name}" for name, n in corrections.not_applied.items() if name != "total" and n)
        line += f"; {other:,} left as they were ({parts})"
    if groups := corrections.conflicts.groups:
        line += f"; {groups:,} texts have several labels now: correct their other rows too"
    return line
