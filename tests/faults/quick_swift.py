"""A stand-in for `swift` as fast as Python starts: weights and answers follow, by hash, from what it is given.

Another model, data set, adapter or wording gives other weights and answers; an interrupted training that goes on from
the right checkpoint gives the same. Like `swift` it starts a process of its own that does the work, and like it, it
writes in pieces. Standard library alone. $QUICK_SWIFT_PACE: seconds a training step and a row take; $QUICK_SWIFT_START:
seconds from its start until it reads its data.
"""

import hashlib
import json
import os
import re
import sys
import time
import zipfile
from pathlib import Path

STEPS, SAVED = 9, 3  # training steps, and after how many of them a checkpoint is written
PACE, START = (float(os.environ.get(f"QUICK_SWIFT_{name}", "0")) for name in ("PACE", "START"))
STATES = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def main(words):
    """Be `swift`: the work is done by a child."""
    child = os.fork()
    if child == 0:
        time.sleep(START)
        (sft if words[0] == "sft" else infer)(words)
        sys.exit()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(status % 256)


def sft(words):
    """Train: the weights after a step are the hash of those before, of the model and of the rows."""
    settings = Path(words[1]).read_text(encoding="utf-8")
    rows = Path(re.search(r"^dataset:\n- (.*)$", settings, re.MULTILINE)[1]).read_bytes()
    rate = re.search(r"^learning_rate: .*$", settings, re.MULTILINE)
    given = hashlib.sha256(model_of(settings) + rows + rate[0].encode()).digest()
    out, step, weights = Path(re.search(r"^output_dir: (.*)$", settings, re.MULTILINE)[1]), 0, given
    if "--resume_from_checkpoint" in words:
        last = Path(words[words.index("--resume_from_checkpoint") + 1])
        step = json.loads((last / "trainer_state.json").read_text())["global_step"]
        weights = (last / "adapter_model.safetensors").read_bytes()[-32:]
    out.mkdir(parents=True, exist_ok=True)
    while step < STEPS:
        time.sleep(PACE)
        step, weights = step + 1, hashlib.sha256(weights + given).digest()
        with open(out / "logging.jsonl", "a") as log:
            log.write(json.dumps({"loss": weights[0] / 256, "global_step/max_steps": f"{step}/{STEPS}"}) + "\n")
        if step % SAVED == 0:
            save(out / f"checkpoint-{step}", step, weights)


def save(folder, step, weights):
    """Write a checkpoint, its files one after the other and none aside, as ms-swift does."""
    folder.mkdir(exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}).encode()
    with open(folder / "adapter_model.safetensors", "wb", buffering=0) as stream:
        for piece in (len(header).to_bytes(8, "little"), header, weights):
            stream.write(piece)
            time.sleep(PACE / 10)
    (folder / "adapter_config.json").write_text('{"lora_alpha": 16}')
    (folder / "args.json").write_text("{}")
    for name in STATES:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
        time.sleep(PACE / 10)
    best, history = max(range(SAVED, step + 1, SAVED), key=lambda at: (at * 7) % 4), []
    history += [{"step": at, "loss": 1 / at} for at in range(1, step + 1)]
    state = {"global_step": step, "max_steps": STEPS, "log_history": history, "best_metric": 0.5}
    state["best_model_checkpoint"] = str(folder.parent / f"checkpoint-{best}")
    (folder / "trainer_state.json").write_text(json.dumps(state))


def infer(words):
    """Answer: text and probabilities are the hash of the chat, the model and the adapter."""
    source = model_of(Path(words[1]).read_text(encoding="utf-8"))
    asked, answers = (Path(words[words.index(name) + 1]) for name in ("--val_dataset", "--result_path"))
    if "--adapters" in words:
        adapter = Path(words[words.index("--adapters") + 1])
        source += b"".join(
            (adapter / name).read_bytes() for name in ("adapter_model.safetensors", "adapter_config.json")
        )
    settings = json.loads(Path(os.environ["LABEL_SCORES"]).read_text(encoding="utf-8"))
    modes, labels = {key: mode for mode, keys in settings["modes"].items() for key in keys}, settings["labels"]
    with open(answers, "ab", buffering=0) as results, open(settings["out"], "ab", buffering=0) as scores:
        for line in asked.read_text(encoding="utf-8").split("\n")[:-1]:
            time.sleep(PACE)
            row = json.loads(line)
            turns = [[turn["role"], turn["content"]] for turn in row["messages"]]
            chat = hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()
            drawn = hashlib.sha256(source + chat.encode()).digest()
            logprobs = {label: -drawn[at] / 64 - 0.01 for at, label in enumerate(labels)}
            text, generated = max(logprobs, key=logprobs.get), modes[row["channel"]] != "score"
            turn = [{"role": "assistant", "content": text}]
            score = {"key": row["channel"], "chat_sha256": chat, "prompt_sha256": chat, "prompt_tokens": len(line)}
            score |= {"score_seconds": 0.01, "generate_seconds": 0.01 if generated else None, "logprobs": logprobs}
            result = {"response": text, "messages": row["messages"] + turn, "channel": row["channel"]}
            for stream, value in ((results, result), (scores, score)):
                data = json.dumps(value, ensure_ascii=False).encode() + b"\n"
                stream.write(data[: len(data) // 2])
                stream.write(data[len(data) // 2 :])


def model_of(settings):
    """What stands for the model that a YAML names: its configuration and both ends of its weights."""
    folder = Path(re.search(r"^model: (.*)$", settings, re.MULTILINE)[1])
    with open(folder / "model.safetensors", "rb") as stream:
        begin = stream.read(1 << 16)
        stream.seek(-(1 << 16), os.SEEK_END)
        return hashlib.sha256((folder / "config.json").read_bytes() + begin + stream.read()).digest()


if __name__ == "__main__":
    main(sys.argv[1:])
