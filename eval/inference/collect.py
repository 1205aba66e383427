"""All completions of a job: from the journal of earlier attempts, and from `swift infer` for the rest."""

import time
from collections.abc import Sequence

from eval.inference.job import BATCH, VLLM, InferenceJob, infer_values, run_processes
from eval.inference.journal import Completion, read_journal
from eval.inference.prompts import Prompt
from plan.hardware import this_machine
from workspace.child_process import OutOfMemory
from workspace.errors import UserError
from workspace.paths import shown
from workspace.stages import begin


def collect(job: InferenceJob, prompts: Sequence[Prompt], inputs: str) -> list[Completion]:
    """The completion of each prompt. What the journal has is not asked again.

    `inputs` is the hash of what the responses depend on; those to others are kept aside. Raises `UserError` when
    `swift infer` fails or loses a row, and `OutOfMemory` when it is killed for that and the run has no --auto-batch.
    """
    progress = begin(job.run.folder, job.stage, inputs)
    found = read_journal(job.journal, prompts, job.dtype)
    batch = progress.batch or int(infer_values(job.run).get(BATCH, 1))
    if found and len(found) < len(prompts):
        print(f"{job.stage}: going on after {len(found)} of {len(prompts)} prompts", flush=True)
    ended = False
    while len(found) < len(prompts) and not ended:
        started = time.monotonic()
        try:
            run_processes(job, [prompt for prompt in prompts if prompt.key not in found], batch)
            ended = True
        except OutOfMemory as error:
            if job.backend is VLLM:  # which fills its memory whatever the batch is
                refused = this_machine().gpu and not error.killed
                raise OutOfMemory(f"{error}: {VLLM_REMEDY if refused else MORE_MEMORY}") from error
            batch = _smaller(error, batch, job.run.auto_batch)
        finally:
            progress.seconds += time.monotonic() - started
            progress.batch = batch
            progress.write(job.folder)
        found = read_journal(job.journal, prompts, job.dtype)
    if len(found) != len(prompts):
        raise UserError(
            f"`swift infer` answered {len(found)} of {len(prompts)} prompts; "
            f"see {shown(job.folder / 'swift.log')} and run the same command again"
        )
    return [found[prompt.key] for prompt in prompts]


VLLM_REMEDY = (
    "vLLM takes vllm_gpu_memory_utilization (0.8, or of a shared card what was free) for itself: end what else is on "
    "it; below `infer:` in an override set that lower where the card has no room for it, higher where the cache has "
    "none, and vllm_max_model_len lower"
)
MORE_MEMORY = "use a smaller model, or a machine with more memory"


def _smaller(error: OutOfMemory, batch: int, auto_batch: bool) -> int:
    """Half the batch, where that is allowed. Raises `OutOfMemory` with what to do where it is not."""
    if batch == 1:
        raise OutOfMemory(f"{error}, one row at a time: {MORE_MEMORY}") from error
    if not auto_batch:
        raise OutOfMemory(
            f"{error}: run the same command with --auto-batch, or set {BATCH}: {batch // 2} in an override"
        ) from error
    print(f"{error}; --auto-batch goes on with {batch // 2} rows at a time", flush=True)
    return batch // 2
