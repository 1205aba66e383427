"""Under which licences a bundle's weights and data are, in plain words: what is not known is said to be not known."""

import re
from pathlib import Path
from typing import NamedTuple

import yaml

from plan.run import Run
from workspace.bilingual import Text
from workspace.paths import CONFIGS

UNKNOWN = "not known here: look it up where the base model comes from"
HEADER = re.compile(r"^# Licence:\s*(?:the weights are under )?(?:the )?(.+)$", re.MULTILINE)
NO_COMMERCE = "no commercial use"
# What hubs call a licence, by the words in which it is written here or in a model's own card.
IDS = {"apache": "apache-2.0", "mit": "mit", "gemma": "gemma", "bsd-3": "bsd-3-clause"}


class Licence(NamedTuple):
    """A licence: its words, and what a hub's card calls it; `name` where that is `other`."""

    words: str
    id: str
    name: str | None = None

    @property
    def sentence(self) -> Text:
        """What it means for whoever uses the weights."""
        if NO_COMMERCE in self.words:
            return Text(
                f"底座权重采用 {self.words.split(':')[0]}：调优后的权重也受它约束，"
                "不允许商用；要商用请换底座或另取授权。",
                f"The base's weights are under the {self.words.split(':')[0]}, and so are these, which come from them: "
                "research and trying out, no commercial use. For that, tune another base or ask its owner.",
            )
        if self.words == UNKNOWN:
            return Text("底座权重的许可证这里不知道：请到底座的发布处查。", f"The base's licence is {UNKNOWN}.")
        return Text(
            f"底座权重采用 {self.words}，调优后的权重也受它约束。",
            f"The base's weights are under {self.words}, and so are these, which come from them.",
        )


def base_licence(run: Run) -> Licence:
    """The licence of the model that a run tuned: as the recipe of that model has it, else the card in its folder."""
    for path in sorted((CONFIGS / "models").glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        found = HEADER.search(text)
        if found and yaml.safe_load(text).get("model", path.stem) == run.model:  # the demo's names no hub's id
            return licence(found[1].strip())
    card = run.model_folder / "README.md" if run.model_folder else Path()
    if card.is_file() and (matter := re.match(r"---\n(.*?)\n---", card.read_text("utf-8", "replace"), re.DOTALL)):
        try:
            values = yaml.safe_load(matter[1])
        except yaml.YAMLError:
            values = None
        named = isinstance(values, dict) and (values.get("license_name") or values.get("license"))
        if isinstance(named, str) and named not in ("other", "unknown"):
            return licence(named)
    return licence(UNKNOWN)


def licence(words: str) -> Licence:
    """A licence by its words."""
    for word, known in IDS.items():
        if re.search(rf"\b{word}", words.lower()):
            return Licence(words, known)
    if words == UNKNOWN:
        return Licence(words, "unknown")
    name = re.sub(r"[^a-z0-9.]+", "-", words.split(":")[0].lower().removesuffix(" licence")).strip("-")
    return Licence(words, "other", name)
