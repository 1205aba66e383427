"""External plugin for `swift sft`: a checkpoint every ten minutes, and one before the end when asked to end.

`external_plugins: [plugins/safe_checkpoints.py]` with `callbacks: [safe_checkpoints]`. Next to the checkpoints of
`save_strategy`, one is saved when `SAFE_CHECKPOINT_SECONDS` (environment; default 600) have passed since the last; on
SIGTERM the step at hand is finished, saved, and training ends, so that at most one step is lost. Saving takes nothing
from the random states: going on from any of these gives the weights of the uninterrupted run.

ms-swift's `early_stop` counts saves as if each brought a new metric, and begins again after an interruption; here it
goes by the evaluations in the trainer's history.
"""

import os
import signal
import time
from typing import Any

import torch
import torch.distributed as dist
from swift.callbacks import TrainerCallback, callbacks_map

SECONDS = 600.0


class SafeCheckpoints(TrainerCallback):
    """Asks for a checkpoint when the time has come, and for the end after it when SIGTERM has come."""

    def __init__(self, args: Any, trainer: Any) -> None:
        super().__init__(args, trainer)
        self.seconds = float(os.environ.get("SAFE_CHECKPOINT_SECONDS", SECONDS))
        self.saved = time.monotonic()
        self.ending = False
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: Any) -> None:
        self.ending = True

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Whether to save after this step, the same on every process."""
        due, self.ending = self._agreed(time.monotonic() - self.saved >= self.seconds, self.ending)
        if state.epoch != round(state.epoch):  # after an epoch's last step its evaluation must come first
            # With a mean loss just logged nothing of it is lost by going on from here.
            control.should_save |= self.ending or (due and state.global_step % state.logging_steps == 0)
            control.should_training_stop |= self.ending
        elif args.eval_strategy == "epoch":
            # ms-swift evaluates at the last step, and again at the end of the epoch that this step ends.
            control.should_evaluate = control.should_save = False
        return control

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Nothing follows an end within an epoch; after a whole one the loss is logged before the checkpoint."""
        if self.ending and state.epoch != round(state.epoch):
            control.should_evaluate = control.should_save = control.should_log = False
        else:
            control.should_log = True
            control.should_training_stop |= self.ending
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """The time counts from here."""
        self.saved = time.monotonic()
        return control

    def _agreed(self, *wishes: bool) -> list[bool]:
        """What any process wishes: saving is done by all together."""
        if not dist.is_initialized():
            return list(wishes)
        flags = torch.tensor(wishes, dtype=torch.uint8, device=self.args.device)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX)
        return [bool(flag) for flag in flags.tolist()]


class EvaluationEarlyStop(TrainerCallback):
    """Early stopping by the evaluations so far, those before an interruption included."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Stop when the last `early_stop_interval` evaluations brought no better metric."""
        key = f"eval_{args.metric_for_best_model.removeprefix('eval_')}"
        scores = [line[key] for line in state.log_history if key in line]
        if scores:
            best = scores.index(max(scores) if args.greater_is_better else min(scores))
            control.should_training_stop |= len(scores) - 1 - best >= args.early_stop_interval
        return control


callbacks_map["safe_checkpoints"] = SafeCheckpoints
callbacks_map["early_stop"] = EvaluationEarlyStop
