"""A stand-in for `swift` in the sweep over write faults of our own code: it answers from a real run's files.

Hundreds of faults with the real command would take hours; the real one is in the tests that kill the pipeline. Answers
come from the journals below $RECORDED, checkpoints from its train folder.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import yaml


def main(words: list[str]) -> None:
    """Do what `swift infer` or `swift sft` did in the recorded run."""
    recorded = Path(os.environ["RECORDED"])
    if words[0] == "sft":
        target = Path(yaml.safe_load(Path(words[1]).read_text(encoding="utf-8"))["output_dir"])
        for path in (recorded / "train").iterdir():
            if path.name not in ("progress.json", "best.json", "last-checkpoint"):
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, target / path.name, **({"dirs_exist_ok": True} if path.is_dir() else {}))
        return
    asked = Path(words[words.index("--val_dataset") + 1])
    answers = Path(words[words.index("--result_path") + 1])
    scores = Path(json.loads(Path(os.environ["LABEL_SCORES"]).read_text(encoding="utf-8"))["out"])
    stage = asked.parent.parent.name
    known: dict[str, dict[str, str]] = {"results": {}, "scores": {}}
    for kind, key in (("results", "channel"), ("scores", "key")):
        for path in (recorded / stage / "journal").glob(f"*.{kind}.jsonl"):
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                known[kind][json.loads(line)[key]] = line
    with open(answers, "a", encoding="utf-8") as results, open(scores, "a", encoding="utf-8") as scored:
        for line in asked.read_text(encoding="utf-8").split("\n")[:-1]:
            key = json.loads(line)["channel"]
            results.write(known["results"][key] + "\n")
            scored.write(known["scores"][key] + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
