"""A frozen layer multiplies a whole batch at once.

The output layer is given the last tokens of each row: a view with gaps. torch multiplies such a view by a weight that
is not trained row by row, and copies the weight for each row (`should_fold` in ATen's LinearAlgebra.cpp): with an
adapter, 16 rows would copy the 0.6 GB of Qwen1.5-0.5B's output layer 16 times. The view is small: it is copied instead.
"""

from typing import Any

import torch


def without_gaps(module: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The inputs of a linear layer, contiguous; None where they are, where `module` is another layer, and where they
    are none that are known here: every layer of the process passes by, whatever it is called with."""
    if not isinstance(module, torch.nn.Linear) or not inputs or not isinstance(inputs[0], torch.Tensor):
        return None
    if inputs[0].layout is not torch.strided or inputs[0].is_contiguous():
        return None
    return (inputs[0].contiguous(), *inputs[1:])


def multiply_whole_batches() -> None:
    """Have every linear layer of this process get inputs without gaps."""
    torch.nn.modules.module.register_module_forward_pre_hook(without_gaps)  # type: ignore[arg-type]
