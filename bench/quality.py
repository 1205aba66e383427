"""What a tuning left: the share of test rows whose most probable label word is right, by plain transformers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from workspace.files import read_jsonl
from workspace.paths import ROOT


def label_accuracy(model: Path, adapter: Path, rows: Path) -> float:
    """Accuracy of the model with the adapter on a dataset's rows, measured in a process of its own."""
    command = [sys.executable, "-m", "bench.quality", str(model), str(adapter), str(rows)]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def main(model: str, adapter: str, rows: str) -> None:
    """Print the accuracy. Answers are compared by the log probability of their tokens with the end token."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_grad_enabled(False)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), adapter
    ).eval()
    data: list[dict[str, Any]] = read_jsonl(Path(rows))
    words = sorted({row["messages"][-1]["content"] for row in data})
    answers = [tokenizer.encode(f"{word}<|im_end|>", add_special_tokens=False) for word in words]
    right = 0
    for row in data:
        *prompt, gold = row["messages"]
        chat = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in prompt)
        ids = tokenizer.encode(chat + "<|im_start|>assistant\n", add_special_tokens=False)
        scores = []
        for answer in answers:
            logits = network(input_ids=torch.tensor([ids + answer]), logits_to_keep=len(answer) + 1).logits[0, :-1]
            scores.append(torch.log_softmax(logits, -1)[range(len(answer)), answer].sum().item())
        right += words[scores.index(max(scores))] == gold["content"]
    json.dump(right / len(data), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
