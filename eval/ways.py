"""How a model is asked by `swift infer`: in words, or, once a classification head is tuned, by the head."""

from pathlib import Path
from typing import NamedTuple

from train.head import PLUGIN as HEAD_PLUGIN
from train.head import is_head
from workspace.paths import ROOT


class Way(NamedTuple):
    """The plugin, the environment variable that names its settings, and more options of `swift infer`."""

    plugin: Path
    variable: str
    options: tuple[str, ...] = ()


WORDS = Way(ROOT / "plugins" / "label_scores.py", "LABEL_SCORES")


def way_to_ask(run: Path, stage: str, classes: int) -> Way:
    """How the model is asked in the stage `before` or `after`. A head starts random: what answers before are words."""
    if stage == "before" or not is_head(run):
        return WORDS
    options = ("--task_type", "seq_cls", "--num_labels", str(classes))
    return Way(HEAD_PLUGIN, "LABEL_HEAD", (*options, "--logprobs", "true", "--top_logprobs", str(classes)))
