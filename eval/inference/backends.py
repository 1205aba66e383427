"""How a model is asked by `swift infer`: in words, by transformers or by vLLM, or by a head, once one is tuned."""

from pathlib import Path
from typing import NamedTuple

import yaml

from plan.resolve import HEAD_PLUGIN
from plan.run import is_head
from workspace.paths import ROOT


class Way(NamedTuple):
    """The plugin, the environment variable that names its settings, and more options of `swift infer`."""

    plugin: Path
    variable: str
    options: tuple[str, ...] = ()


WORDS = Way(ROOT / "plugins" / "label_scores.py", "LABEL_SCORES")
WORDS_BY_VLLM = Way(ROOT / "plugins" / "label_scores_vllm.py", "LABEL_SCORES_VLLM")


def way_to_ask(run: Path, stage: str, classes: int) -> Way:
    """How the model is asked in the stage `before` or `after`. A head starts random: what answers before are words."""
    if by_vllm(run):
        return WORDS_BY_VLLM
    if stage == "before" or not is_head(run):
        return WORDS
    options = ("--task_type", "seq_cls", "--num_labels", str(classes))
    return Way(HEAD_PLUGIN, "LABEL_HEAD", (*options, "--logprobs", "true", "--top_logprobs", str(classes)))


def by_vllm(run: Path) -> bool:
    """Whether the run's infer.yaml has vLLM answer; not before it has one."""
    path = run / "infer.yaml"
    return path.is_file() and yaml.safe_load(path.read_text(encoding="utf-8")).get("infer_backend") == "vllm"
