"""Whether a finished run came out as it should: for the first run on a machine, above all on one with a GPU and a hub.

Run as: python -m eval.verify RUN; `bash run_sft.sh verify [recipe]` makes the whole run first

Compares with what is expected of a recipe, and prints a line for the first table of docs/results.md. Exit status 1
where something is not as expected.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from plan.run import Run
from workspace.command_line import Parser, given_path
from workspace.errors import EXIT_FAULT, UserError, run_main
from workspace.files import read_json, read_jsonl
from workspace.paths import shown


class Expected(NamedTuple):
    """What a recipe is known for: model, rows, by reading the lowest and the highest accuracy, and their source."""

    model: str
    train: int
    test: int
    accuracy: Mapping[str, tuple[float, float]]
    source: str


EXPECTED = {
    "hotel_reviews/qwen1.5-0.5b-chat+original-split": Expected(
        "Qwen1.5-0.5B-Chat",
        5590,
        1553,
        {"before_generate": (0.70, 0.80), "after_generate": (0.885, 0.915)},
        "the original experiment: 0.75 before, 0.90 after; one seed",
    ),
    # Twice the standard error of some 80 rows around 0.50, and of 720 rows with a seed's noise around 0.80.
    "demo/minimind2-small": Expected(
        "minimind2-small",
        180,
        720,
        {"before_score": (0.31, 0.66), "after_score": (0.74, 0.86)},
        "docs/results.md: 0.42 to 0.59 before, 0.76 to 0.82 after",
    ),
}


HARMLESS = {"--csv", "--run", "--fresh", "--with", "--model", "--auto-batch"}  # --with and --model are looked at


class Finding(NamedTuple):
    """What was looked at, whether it is as expected, and what was found."""

    name: str
    ok: bool
    found: str

    def line(self) -> str:
        """The line for a terminal."""
        return f"{'as expected  符合' if self.ok else 'NOT SO       不符'}  {self.name}: {self.found}"


def _model_name(model: Path) -> str:
    """The name below which a hub has a model, of its id or its folder: of a cache's too, where snapshots/HASH is last
    (Hugging Face) or dots are written as ___ (ModelScope)."""
    folder = model.parents[1] if model.parent.name == "snapshots" else model
    return folder.name.rpartition("--")[2].replace("___", ".")


def findings(run: Run, metrics: Mapping[str, Any], expected: Expected) -> Iterator[Finding]:
    """Everything that is looked at in a run's figures."""
    model = _model_name(Path(str(run.model)))
    yield Finding("model", model == expected.model, f"{model}, expected {expected.model}")
    options = [word for word in shlex.split(run.command or "") if word.startswith("--")]
    own = sorted({word.partition("=")[0] for word in options} - HARMLESS)
    yield Finding("options", not own, f"{', '.join(own)}: another run" if own else "none that change a result")
    train, test = (metrics["counts"][split]["total"] for split in ("train", "test"))
    wanted = f"{expected.train:,} / {expected.test:,}"
    same = (train, test) == (expected.train, expected.test)
    yield Finding("rows train / test", same, f"{train:,} / {test:,}, expected {wanted}")
    for name, (low, high) in expected.accuracy.items():
        one = metrics["readings"].get(name)
        if one is None:
            yield Finding(name, False, "is not there")
            continue
        found = f"accuracy {one['accuracy']:.3f}, expected {low:g} to {high:g} ({expected.source})"
        rows = (test, metrics["test"].get("asked", test))  # the untuned model may have been asked a part of them
        yield Finding(name, low <= one["accuracy"] <= high and one["n"] in rows, found)
    for check in metrics["parity"]:
        yield Finding(check["name"], check["ok"], check["detail"]["en"])
    readings = metrics["readings"]
    better = readings["after_score"]["accuracy"] > readings["majority"]["accuracy"]
    yield Finding("tuning", better, f"after_score {'is' if better else 'is not'} above the majority class")
    if (gpu := run.machine.get("gpu")) is not None:
        gib = peak_gib(run.train_folder)
        yield Finding(
            "device", bool(gib), f"the {gpu} was used, with {gib:.1f} GiB at most" if gib else f"the {gpu} was not used"
        )


def peak_gib(train: Path) -> float | None:
    """The most GPU memory that a line of ms-swift's training log names, in GiB; None where none does."""
    path = train / "logging.jsonl"
    lines = read_jsonl(path) if path.is_file() else []
    return max((float(line["memory(GiB)"]) for line in lines if line.get("memory(GiB)")), default=None)


def results_line(run: Run, metrics: Mapping[str, Any]) -> str:
    """The run as a row of the first table of docs/results.md."""
    readings, seconds = metrics["readings"], metrics["run"]["seconds"]
    test = metrics["counts"]["test"]["total"]
    name = next(name for name in ("after_generate", "after_score") if name in readings and readings[name]["n"] == test)
    after, linear, gib = readings[name], readings.get("tfidf_linear"), peak_gib(run.train_folder)
    low, high = after["accuracy_ci"]
    minutes = f"{seconds['train'] / 60:.1f} min; with before and after {sum(seconds.values()) / 60:.1f} min"
    versions = ", ".join(f"{one} {run.versions[one]}" for one in ("ms-swift", "torch") if one in run.versions)
    cells = [
        f"`{run.recipe}`",
        f"{metrics['run']['machine']}; {versions}; {run.planned}",
        f"{metrics['counts']['train']['total']:,} / {metrics['counts']['test']['total']:,}",
        minutes,
        f"{gib:.1f} GiB of the GPU" if gib else "not measured",
        f"{after['accuracy']:.1%} ({100 * low:.1f}–{100 * high:.1f}) / {after['macro_f1']:.3f}",
        f"{linear['accuracy']:.1%} / {linear['macro_f1']:.3f}" if linear else "–",
    ]
    return f"| {' | '.join(cells)} |".replace("%", " %")


def expected_of(run: Run) -> Expected:
    """What a run's recipe is known for. Raises `UserError` where nothing is."""
    if run.recipe not in EXPECTED:
        known = "`verify` or `verify demo`, without --with"
        raise UserError(f"nothing is known of what {run.recipe} should reach: run {known} ({', '.join(EXPECTED)})")
    return EXPECTED[run.recipe]


def verify(folder: Path) -> tuple[list[Finding], str]:
    """What was looked at in the finished run in `folder`, and its line for docs/results.md.

    Raises `UserError` for a run without a report, and for a recipe of which nothing is known.
    """
    run, path = Run.read(folder), folder / "metrics.json"
    expected = expected_of(run)
    if not path.is_file():
        raise UserError(f"{shown(folder)} has no metrics.json yet: run `python -m eval.report {shown(folder)}`")
    metrics = read_json(path)
    return list(findings(run, metrics, expected)), results_line(run, metrics)


def main(argv: Sequence[str] | None = None) -> int:
    """Print what was found; 1 where something is not as expected."""
    parser = Parser("python -m eval.verify", __doc__)
    parser.add_argument("run", type=given_path, metavar="RUN", help="the folder of a finished run")
    parser.add_argument("--recipe", action="store_true", help="say before it runs whether its recipe is known, no more")
    options = parser.parse_args(argv)
    if options.recipe:
        expected_of(Run.read(options.run.absolute()))
        return 0
    found, line = verify(options.run.absolute())
    print("\n".join(one.line() for one in found))
    wrong = sum(not one.ok for one in found)
    print(
        f"verify: {len(found) - wrong} of {len(found)} as expected / {len(found)} 项中 {len(found) - wrong} 项符合预期"
    )
    print(f"\nfor docs/results.md, below Recipes:\n{line}")
    return EXIT_FAULT if wrong else 0


if __name__ == "__main__":
    run_main(main)
