"""What an untuned model prefers whatever the text says, taken off its label probabilities without any gold label.

Batch calibration (Zhou et al., ICLR 2024), in log space: a row's label is the one with the greatest
log p(y | x) - m(y), where m(y) is the mean of log p(y | x) over a batch of prompts x. A bias that is the same for all
rows goes, whatever its size. The batch is the validation prompts, of which no gold label is read. It supposes classes
of about equal number: where one is far more frequent than another, it corrects too much.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

LEAST = 1e-12  # of a probability: log 0 must not decide a mean

FloatArray = NDArray[np.float64]


def batch_calibrated(probabilities: FloatArray, batch: FloatArray) -> FloatArray:
    """`probabilities` (n, labels) after batch calibration by the probabilities `batch` (m, labels), rows summing to 1.

    Raises ValueError for an empty batch.
    """
    if not len(batch):
        raise ValueError("there are no prompts to calibrate by")
    logs, means = (np.log(np.maximum(shares, LEAST)) for shares in (probabilities, batch))
    return softmax(logs - means.mean(axis=0), axis=1)


def only_answer(predicted: Sequence[str | None]) -> dict[str, Any] | None:
    """{"label", "n"}: the one label that all `n` parsed answers name, and so says nothing of the rows; None where there
    are two labels, or fewer than two answers."""
    named = [label for label in predicted if label is not None]
    return {"label": named[0], "n": len(named)} if len(named) > 1 and len(set(named)) == 1 else None
