"""The folder of a table that is being labelled: parts written whole or not at all, and what they were made from.

Its files are the only record of how far the work is: a part is there or it is not, and the same command goes on after
the last.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from pydantic import ConfigDict

from workspace.errors import UserError
from workspace.files import replace_file, write_json
from workspace.folder_lock import locked
from workspace.paths import shown
from workspace.records import Json, read

FORMAT = 1
BATCH = 5_000  # rows read at a time
NAME = re.compile(r"rows-(\d{12})-(\d{12})\.parquet")  # first row from 0, and the row after the last


@dataclass(frozen=True)
class Made:
    """What labels are made from, by hash: the classifier with its weights, its prompt, the table, the options."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    classifier: str
    prompt: str
    table: str
    options: dict[str, Json]
    rows: int
    format: int = FORMAT

    def differs(self, other: "Made") -> list[str]:
        """The names of what is not the same in another."""
        mine, others = asdict(self), asdict(other)
        return [name for name in mine if mine[name] != others[name]]


@dataclass(frozen=True)
class Shards:
    """The parts in `folder`, which were all made from the same."""

    folder: Path
    rows: int

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, made: Made) -> "Iterator[Shards]":
        """The parts of an earlier attempt, or none yet, held for this process alone.

        Raises `UserError` where they were made from something else, or the folder holds something else.
        """
        manifest = folder / "manifest.json"
        if folder.exists() and not manifest.is_file() and any(one.name != "lock" for one in folder.iterdir()):
            raise UserError(f"{shown(folder)} is in the way (it has no {manifest.name} of ours): name another --out")
        with locked(folder):
            if manifest.is_file():
                check_same(read(manifest, Made, f"remove {shown(folder)}"), made, folder)
            else:
                write_json(manifest, asdict(made))
            yield cls(folder, made.rows)

    @property
    def done(self) -> int:
        """How many rows are there, from the first on without a gap."""
        return self.parts()[-1][1] if self.parts() else 0

    def parts(self) -> list[tuple[int, int, Path]]:
        """First row, row after the last, and file of each part, in order, up to the first gap."""
        found, end = [], 0
        for path in sorted(self.folder.iterdir()):
            if (named := NAME.fullmatch(path.name)) and int(named[1]) == end < int(named[2]):
                found.append((end, end := int(named[2]), path))
        return found

    def add(self, start: int, rows: pa.Table) -> None:
        """Write the rows from `start` on as a part."""
        path = self.folder / f"rows-{start:012d}-{start + len(rows):012d}.parquet"
        with replace_file(path, "wb") as stream:
            pyarrow.parquet.write_table(rows, stream, compression="zstd")

    def tables(self) -> Iterator[pa.Table]:
        """The rows of the parts in order, BATCH of them at a time. Raises `UserError` for a part that is damaged, or
        where the counts do not agree."""
        for start, end, path in self.parts():
            try:
                file = pyarrow.parquet.ParquetFile(path)
                if (rows := file.metadata.num_rows) != end - start:
                    raise UserError(f"{shown(path)} has {rows:,} of its {end - start:,} rows: remove it and run again")
                for batch in file.iter_batches(BATCH):
                    yield pa.Table.from_batches([batch])
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{shown(path)} cannot be read ({error!s:.80}): remove it, and run again") from None
        if self.done != self.rows:
            raise UserError(f"{shown(self.folder)} has {self.done:,} of {self.rows:,} rows: run the same command again")

    def remove(self) -> None:
        """Remove the parts and the folder."""
        ours = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]  # one beyond a gap, too
        for path in [*ours, self.folder / "manifest.json", self.folder / "lock"]:
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()


def check_same(earlier: Made, now: Made, place: Path) -> None:
    """Raise `UserError` where labels in `place` were made from something else than they would be now."""
    if changed := earlier.differs(now):
        these = [f"{'these' if name.endswith('s') else 'this'} {name}" for name in changed]
        raise UserError(f"{shown(place)} was not made with {' and '.join(these)}: name another --out, or remove it")


def as_options(**given: Any) -> dict[str, Json]:
    """Options as a manifest has them: those that were given."""
    return {name: list(one) if isinstance(one, tuple) else one for name, one in given.items() if one is not None}
