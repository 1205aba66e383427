"""Tuned weights as a model of its own: an adapter added to its base in float32, and stored so that it answers alike.

A sum that is computed or stored too coarsely answers otherwise than what was measured: what is written is loaded anew
and asked the same texts.
"""

import gc
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from eval.scoring.temperature import Calibration
from plan.training_memory import ModelShape
from serve.classifier_file import Agreement
from serve.tuned import TunedScorer, check_room
from workspace.errors import UserError
from workspace.files import remove
from workspace.paths import shown
from workspace.progress import progress

ROWS = 200
# Of a probability, by the dtype that weights are stored in: float32 differs by the order of sums alone, the others by
# the rounding of each weight to 11 and to 8 bits.
TOLERANCE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}

FloatArray = NDArray[np.float64]


class TunedModel(NamedTuple):
    """The weights of a run: the model's folder, the adapter's where there is one, how to ask them, and what makes the
    probabilities that are given of what they say."""

    model: Path
    adapter: Path | None
    scorer: Callable[[Path, Path | None], TunedScorer]
    labels: Sequence[str]
    head: bool
    calibration: Calibration


def write_merged(tuned: TunedModel, texts: Sequence[str], folder: Path) -> Agreement:
    """Write config.json and the weights into `folder`, in the base's dtype or, where its answers to the `texts` are too
    far from those of base and adapter, in float32.

    Raises `UserError` where even those are, `OutOfMemory` and torch's own errors where memory does not hold them.
    """
    wanted = _answers(tuned, tuned.model, tuned.adapter, texts)
    stored = ModelShape.read(tuned.model).stored_in
    told = []
    for dtype in dict.fromkeys([stored if stored in TOLERANCE else "float32", "float32"]):
        for path in folder.glob("model*.safetensors*"):
            remove(path)
        _save(tuned, dtype, folder)
        agreement = compare(wanted, _answers(tuned, folder, None, texts), dtype)
        if isinstance(agreement, Agreement):
            return agreement
        told.append(agreement)
        print(f"export: {agreement}", flush=True)
    raise UserError(
        f"the merged weights of {shown(tuned.adapter or tuned.model)} do not answer as they did apart ({told[-1]}): "
        "export the adapter alone with --adapter"
    )


def compare(wanted: FloatArray, found: FloatArray, dtype: str) -> Agreement | str:
    """How probabilities (n, labels) of weights stored in `dtype` agree with those `wanted`; else why they do not, to
    stand in a sentence."""
    tolerance = TOLERANCE[dtype]
    difference = float(np.abs(found - wanted).max(initial=0.0))
    if not difference <= tolerance:
        return f"in {dtype} a probability differs by {difference:.2g}, more than {tolerance:g}"
    first, second = np.sort(wanted, axis=1)[:, :-3:-1].T
    tie = first - second <= 2 * tolerance
    others = found.argmax(axis=1) != wanted.argmax(axis=1)
    if (others & ~tie).any():
        return f"in {dtype} {int((others & ~tie).sum())} of {len(wanted)} rows get another label"
    return Agreement(dtype, len(wanted), float(f"{difference:.1g}"), tolerance, int(tie.sum()))


def _answers(tuned: TunedModel, model: Path, adapter: Path | None, texts: Sequence[str]) -> FloatArray:
    with progress(len(texts), "export: comparing answers") as bar:
        found = tuned.scorer(model, adapter).score(texts, bar.update).probabilities
    gc.collect()
    torch.cuda.empty_cache()  # or the next model finds the card full of what this one has left
    return tuned.calibration.apply(found)


def _save(tuned: TunedModel, dtype: str, folder: Path) -> None:
    """Write the sum of base and adapter, a trained head and all other parts that were trained as a whole with it."""
    import transformers

    kind = "AutoModelForSequenceClassification" if tuned.head else "AutoModelForCausalLM"
    given: dict[str, Any] = {"num_labels": len(tuned.labels)} if tuned.head else {}
    check_room(tuned.model, "float32", torch.device("cpu"))
    model = getattr(transformers, kind).from_pretrained(
        tuned.model, dtype=torch.float32, local_files_only=True, **given
    )
    if tuned.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, tuned.adapter).merge_and_unload()
    if tuned.head:
        model.config.id2label = dict(enumerate(tuned.labels))
        model.config.label2id = {label: place for place, label in enumerate(tuned.labels)}
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    path = folder / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("_name_or_path", None)  # where the base lay
    path.write_text(json.dumps(settings, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
