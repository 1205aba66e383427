"""Every promise of this project about speed, measured against its peers and held against the figure to reach.

Run as: python -m bench goals FOLDER [--repeat N] [--csv FILE] [--model DIR]

Runs the benches of inference, training and stages, which write their figures and pictures into FOLDER: an hour or more
on two cores. What stands there already is not measured again.
"""

import math
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from bench import inference, stages, training
from bench.inference import RATES as FLOAT32
from bench.limits import share
from bench.subject import check_cpu, publish
from workspace.files import read_json
from workspace.markdown import table

FASTER_THAN_DEFAULT, FASTER_THAN_PEERS = 4.0, 3.0
FASTER_THAN_FLAGS = 1.0  # ms-swift's own flags at their best: on no machine is the project's default the slower one
TUNED_SHARE, SCORE_SHARE, TRAINING_SHARE = 0.75, 0.85, 0.5  # of what the arithmetic allows


class Goal(NamedTuple):
    """What was measured, against what, the figure and the one to reach in words; `kept`: None without one to reach."""

    what: str
    against: str
    reached: str
    goal: str
    kept: bool | None


def run(folder: Path, repeat: int = 3, csv: Path | None = None, model: Path | None = None) -> int:
    """Measure what is missing, print a line for each goal; return 1 when one is not kept, else 0.

    Raises `UserError` where something is missing and a GPU would compute.
    """
    found: dict[str, dict[str, Any]] = {}
    benches: dict[str, Any] = {"inference": inference, "training": training, "stages": stages}
    for name, bench in benches.items():
        path = folder / f"{name}.json"
        if not path.is_file():
            check_cpu()
            more = {} if name == "stages" else {"model": model, "picture": path.with_suffix(".png")}
            publish(bench, repeat=repeat, csv=csv, json=path, **more)
        found[name] = read_json(path)
    goals = inference_goals(found["inference"]) + training_goals(found["training"]) + stage_goals(found["stages"])
    verdict = {True: "kept", False: "NOT kept", None: "–"}
    machines = sorted({one["machine"] for one in found.values()})
    stolen = ", ".join(f"{name} {one['stolen']:.1%}" for name, one in found.items())
    print(f"\ngoals, measured on {'; '.join(machines)}; medians; stolen by the host: {stolen}\n")
    lines = table(["what", "against", "reached", "goal", ""], [[*one[:4], verdict[one.kept]] for one in goals])
    print("\n".join(lines), flush=True)
    return int(any(one.kept is False for one in goals))


def inference_goals(found: dict[str, Any]) -> list[Goal]:
    """Text and label scores against `swift infer` with its defaults and the limit of 2·N·T."""
    untuned, tuned, score = inference.WAYS.values()
    same, rows = (sum(one[key] for one in found["same"].values()) for key in ("same", "rows"))
    return [
        _times(found, untuned, inference.DEFAULT, FASTER_THAN_DEFAULT),
        _times(found, untuned, inference.BEST, FASTER_THAN_FLAGS),
        _share(found, tuned, 2, TUNED_SHARE),
        _share(found, score, 2, SCORE_SHARE),
        Goal("answers", "the defaults, other batch sizes", f"{same} of {rows} the same", "all", same == rows),
    ]


def training_goals(found: dict[str, Any]) -> list[Goal]:
    """Training against defaults, other tools and the limit of 4·N·T; a peer that was not measured keeps nothing."""
    ours = training.OURS
    goals = [
        _times(found, ours, training.DEFAULT, FASTER_THAN_DEFAULT),
        _times(found, ours, training.BEST, FASTER_THAN_FLAGS),
        _times(found, ours, training.FACTORY, FASTER_THAN_PEERS),
        _times(found, ours, training.HEAD, FASTER_THAN_PEERS),
    ]
    bf16 = training.PLAIN in found["rates"]  # then ours is computed in bfloat16, and held against that rate
    goals.append(_share(found, ours, 4, TRAINING_SHARE, ("bf16",) if bf16 else FLOAT32))
    goals += [_share(found, way, 4, None) for way in (ours, training.PLAIN) if bf16]
    goals = [one._replace(what=f"training, {one.what}") for one in goals]
    if {ours, training.DEFAULT} <= found["accuracy"].keys():
        goals.append(_as_good(found["accuracy"][ours], found["accuracy"][training.DEFAULT]))
    return goals


def stage_goals(found: dict[str, Any]) -> list[Goal]:
    """The demo, prep and report against their seconds."""
    measured = {name: stages.seconds(found, name) for name in stages.LIMITS}
    return [
        Goal(name, "the clock", f"{measured[name]:.1f} s", f"<= {limit:.0f} s", measured[name] <= limit)
        for name, limit in stages.LIMITS.items()
    ]


def _times(found: dict[str, Any], way: str, peer: str, least: float) -> Goal:
    """How many times as fast as a peer, by medians."""
    if not found["rates"].get(peer):
        return Goal(way, peer, "not measured", f">= {least:.0f} x", False)
    times = statistics.median(found["rates"][way]) / statistics.median(found["rates"][peer])
    return Goal(way, peer, f"{times:.1f} x", f">= {least:.0f} x", times >= least)


def _share(
    found: dict[str, Any], way: str, operations: int, least: float | None, by: tuple[str, ...] = FLOAT32
) -> Goal:
    """Which share of the limit of `operations` a parameter and token, at the fastest of the rates named in `by`."""
    reached = min(share(found, way, operations, name) for name in by)
    gflops = max(found["limits"][name] for name in by)
    against = f"{operations}·N·T, {'bf16' if by == ('bf16',) else 'float32'}, {gflops:.0f} GFLOP/s"
    goal, kept = ("–", None) if least is None else (f">= {least:.0%}", reached >= least)
    return Goal(way, against, f"{reached:.0%}", goal, kept)


def _as_good(ours: list[float], theirs: list[float]) -> Goal:
    """Whether the mean over the seeds is lower by no more than the two standard deviations together."""
    mean, other = statistics.mean(ours), statistics.mean(theirs)
    spread, other_spread = (statistics.stdev(one) if len(one) > 1 else 0.0 for one in (ours, theirs))
    reached = f"{mean:.1%} ± {spread:.1%}, theirs {other:.1%} ± {other_spread:.1%}"
    kept = mean >= other - math.hypot(spread, other_spread)
    return Goal("accuracy after training", training.DEFAULT, reached, "no worse, within the seeds", kept)
