"""External plugin for `swift sft` and `swift infer` on a CPU: the one entry to what is in plugins/cpu.

`external_plugins: [plugins/cpu_kernels.py]` has frozen layers multiply whole batches at once; with
`callbacks: [fused_training]` LoRA is trained through fused decoder layers.
"""

from typing import Any

from cpu.fused_training import fuse_for_training  # the folder next to this file
from cpu.whole_batches import multiply_whole_batches
from swift.callbacks import TrainerCallback, callbacks_map


class FusedTraining(TrainerCallback):
    """Puts the fused functions in place when training begins, but for weights that processes hold in pieces."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """After the weights of a checkpoint have been read, before the first step."""
        if not (getattr(args, "fsdp", None) or getattr(args, "deepspeed", None)):
            fuse_for_training(model)


callbacks_map["fused_training"] = FusedTraining
multiply_whole_batches()
