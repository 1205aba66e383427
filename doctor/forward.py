"""One forward pass of one chat through a model's folder, timed.

Run as: python -m doctor.forward MODEL DTYPE DEVICE SYSTEM PROMPT

Prints {"tokens", "seconds", "load_seconds", "device"} as JSON; ends with an error where the logits are not finite.
"""

import json
import sys
import time
from typing import Any


def main() -> None:
    """Load, answer, print."""
    folder, dtype, device, system, prompt = sys.argv[1:]
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    begin = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=getattr(torch, dtype))
    model = model.to(device)
    loaded = time.monotonic()
    ids = tokenizer(f"{system}\n{prompt}", return_tensors="pt").input_ids.to(device)
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    if not torch.isfinite(logits).all():
        sys.exit("its logits are not finite: the weights are damaged, or the dtype is too small")
    seconds = time.monotonic() - loaded
    print(json.dumps({"tokens": ids.shape[1], "seconds": seconds, "load_seconds": loaded - begin, "device": device}))


if __name__ == "__main__":
    main()
