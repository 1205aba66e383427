"""Folders as a stranger may send them, by kind: what each changes in a good one so that code would run, or that what is
written or removed would lie elsewhere. A case gets the good folder and `home`, a folder of the user's that must stay as
it is; whatever would run writes `home/canary`.
"""

import hashlib
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from workspace.files import remove

Change = Callable[[Path, Path], None]
Cases = dict[str, Change]
KERNELS = ("_attn_implementation", "attn_implementation", "_attn_implementation_internal", "experts_implementation",
           "_experts_implementation", "attn_impl")  # fmt: skip
CODE = ("modeling_evil.py", "tokenization.PY", "visual.pyc", "deep/down/evil.py", "kernel.so", "model.zip", "w.tar.gz",
        "w.whl", "run.sh", "x.exe", "x.egg", "x.dll", "x.pyd")  # fmt: skip
# Options that name code, files or addresses: what a recipe, an override, a task or a run's YAML may not have.
OPTIONS: dict[str, Any] = {
    "custom_register_path": ["evil.py"], "local_repo_path": "repository", "custom_dataset_info": ["info.json"],
    "model_kwargs": {"ld_preload": "evil.so"}, "cached_dataset": ["cached"], "cached_val_dataset": ["cached"],
    "generation_config": "stranger/model", "torch_compile_backend": "evil", "ray_exp_name": "evil",
    "device_groups": '{"a": "evil"}', "eval_dataset_args": {"a": {"local_path": "x"}}, "extra_eval_args": {"a": "b"},
    "swanlab_webhook_url": "https://stranger.example", "swanlab_smtp_server": "stranger.example",
    "trackio_space_id": "stranger/space", "hub_model_id": "stranger/copy", "reft_args": '{"a": "evil"}',
    "attn_impl": "stranger/kernel", "experts_impl": "stranger/kernel",
}  # fmt: skip
VARIABLES = ("LD_PRELOAD", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PATH", "HF_ENDPOINT", "NCCL_NET_PLUGIN",
             "TRITON_CACHE_DIR", "HOME", "BASH_ENV")  # fmt: skip


class Touch:
    """Pickled, a call that writes the canary when it is loaded."""

    def __init__(self, home: Path) -> None:
        self.canary = home / "canary"

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.canary}'",)


def change(path: Path, **values: Any) -> None:
    """Put values into a JSON file, which is made where it is not there."""
    now = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(now | values), encoding="utf-8")


def put(path: Path, data: bytes | str) -> None:
    """Write a file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())


def code(home: Path) -> str:
    """A module that writes the canary."""
    return f"from pathlib import Path\nPath({str(home / 'canary')!r}).write_text('ran')\n"


def linked(path: Path, target: Path) -> None:
    """A link in the place of `path`, which is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        remove(path)
    path.symlink_to(target)


def piped(path: Path) -> None:
    """A pipe in the place of `path`: whoever opens it waits for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        remove(path)
    os.mkfifo(path)


def as_pickle(name: str, beside: str | None = None) -> Change:
    """The weights as a pickle; `beside`: a file of safetensors that transformers does not take."""

    def apply(folder: Path, home: Path) -> None:
        for path in folder.glob("*.safetensors"):
            path.rename(folder / beside) if beside else path.unlink()
        put(folder / name, pickle.dumps(Touch(home)))

    return apply


def models() -> Cases:
    """Model folders."""
    cases: Cases = {}
    deep: Any = {"auto_map": {"AutoModel": "other/repo--evil.Evil"}}
    for name in ("config", "generation_config", "tokenizer_config", "special_tokens_map", "preprocessor_config"):
        for depth, value in enumerate((deep, {"text_config": [{"vision": deep}]})):
            cases[f"auto_map {name} {depth}"] = lambda f, h, n=name, v=value: change(f / f"{n}.json", **v)
    for key in KERNELS:
        for value in ("stranger/kernel", {"": "stranger/kernel"}, [["paged|stranger/kernel@v1:fn"]]):
            cases[f"kernel {key} {value}"] = lambda f, h, k=key, v=value: change(f / "config.json", text={k: v})
    for suffix in ("bin", "pt", "pth", "ckpt", "pkl", "h5", "msgpack"):
        cases[f"pickle {suffix}"] = as_pickle(f"pytorch_model.{suffix}")
        cases[f"pickle {suffix} beside"] = as_pickle(f"pytorch_model.{suffix}", "other.safetensors")
    for name in CODE:
        cases[f"code {name}"] = lambda f, h, n=name: put(f / n, code(h))
    cases["code custom_generate"] = lambda f, h: put(f / "custom_generate" / "generate.py", code(h))
    for part in ("../other.safetensors", "pytorch_model.bin", "/other.safetensors", 5, "deep/x.safetensors"):
        index = "model.safetensors.index.json"
        cases[f"index {part}"] = lambda f, h, p=part, i=index: change(f / i, weight_map={"a": p})
    cases["another base"] = lambda f, h: change(f / "adapter_config.json", base_model_name_or_path="stranger/pickles")
    cases["named weights"] = lambda f, h: change(f / "config.json", transformers_weights="adapter_model.bin")
    cases["pipeline"] = lambda f, h: change(f / "config.json", custom_pipelines={"x": {"impl": "evil.Evil"}})
    cases["plugin in args.json"] = lambda f, h: (put(f.parent / "evil.py", code(h)), change(
        f / "args.json", external_plugins=[str(f.parent / "evil.py")]))[0]  # fmt: skip
    cases["kernel in args.json"] = lambda f, h: change(f / "args.json", attn_impl="stranger/kernel")
    cases["link to a folder"] = lambda f, h: linked(f / "assets", h)
    cases["link to nowhere"] = lambda f, h: linked(f / "README.md", h / "none")
    cases["link to itself"] = lambda f, h: linked(f / "README.md", f / "README.md")
    cases["link to a device"] = lambda f, h: linked(f / "extra.safetensors", Path("/dev/zero"))
    cases["pipe"] = lambda f, h: piped(f / "generation_config.json")
    for number, text in enumerate((b"\xff\xfe{\x00}\x00", b"{", b"[" * 100_000, b"\xef\xbb\xbf{}")):
        cases[f"unreadable {number}"] = lambda f, h, t=text: put(f / "tokenizer_config.json", t)
    return cases


def states(path: Path, *members: tuple[str, bytes], before: bytes = b"") -> None:
    """A file of torch.save with these members, and bytes before the archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(f"archive/{name}", data)
    path.write_bytes(before + path.read_bytes())


def checkpoints() -> Cases:
    """Adapters and checkpoints; `folder` is that of a checkpoint."""
    cases: Cases = {}
    for key in ("auto_mapping", "megatron_config", "loftq_config", "eva_config", "corda_config", "arrow_config",
                "lora_ga_config", "velora_config", "monteclora_config", "use_bdlora"):  # fmt: skip
        value = {"parent_library": "evil", "base_model_class": "Evil", "cache_file": "evil.pt"}
        cases[f"adapter {key}"] = lambda f, h, k=key, v=value: change(f / "adapter_config.json", **{k: v})
    for kind in ("IA3", "PROMPT_TUNING", "XLORA", "evil", 5, ["LORA"]):
        cases[f"peft_type {kind}"] = lambda f, h, k=kind: change(f / "adapter_config.json", peft_type=k)
    for kind in ("SCETUNING", "ROME"):
        cases[f"swift_type {kind}"] = lambda f, h, k=kind: change(f / "adapter_config.json", swift_type=k)
    for name in ("default/adapter_config.json", "evil/adapter_model.bin", "b/adapter_model.safetensors",
                 "global_step1/evil.py", "other/global_step1/x.pt"):  # fmt: skip
        cases[f"nested {name}"] = lambda f, h, n=name: put(f / n, pickle.dumps(Touch(h)))
    for name in CODE:
        cases[f"code {name}"] = lambda f, h, n=name: put(f / n, code(h))
    for name in ("adapter_model.bin", "pytorch_model.bin", "x.pkl", "head.pt", "optimizer_2.pth"):
        cases[f"pickle {name}"] = lambda f, h, n=name: put(f / n, pickle.dumps(Touch(h)))
    cases["pickle beside others"] = as_pickle("adapter_model.bin", "other.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt"):
        good = ("data.pkl", pickle.dumps("state", 2))
        cases[f"state {name} code"] = lambda f, h, n=name: states(f / n, ("data.pkl", pickle.dumps(Touch(h), 2)))
        cases[f"state {name} capitals"] = lambda f, h, n=name: states(f / n, ("DATA.PKL", pickle.dumps(Touch(h), 2)))
        cases[f"state {name} before it"] = lambda f, h, n=name, g=good: states(f / n, g, before=pickle.dumps(Touch(h)))
        cases[f"state {name} script"] = lambda f, h, n=name, g=good: states(
            f / n, g, ("constants.pkl", b""), ("code/evil.py", code(h).encode())
        )
    cases["plugin in args.json"] = lambda f, h: (put(f.parent / "evil.py", code(h)), change(
        f / "args.json", external_plugins=[str(f.parent / "evil.py")]))[0]  # fmt: skip
    for key in ("attn_impl", "experts_impl"):
        cases[f"{key} in args.json"] = lambda f, h, k=key: change(f / "args.json", **{k: "stranger/kernel"})
    cases["auto_map"] = lambda f, h: change(f / "config.json", auto_map={"AutoModel": "evil.Evil"})
    for name in ("adapter_model.safetensors", "adapter_config.json", "README.md"):
        cases[f"link {name}"] = lambda f, h, n=name: linked(f / n, h / "thesis.txt")
    cases["link to a folder"] = lambda f, h: linked(f / "global_step1", h)
    cases["pipe"] = lambda f, h: piped(f / "additional_config.json")
    for key, value in (("lora_alpha", 1600), ("r", 64), ("use_dora", True), ("use_rslora", True)):
        cases[f"edited {key}"] = lambda f, h, k=key, v=value: change(f / "adapter_config.json", **{k: v})
    return cases


def edited(path: Path, **values: Any) -> None:
    """Put keys into a YAML file."""
    now = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    path.write_text(yaml.safe_dump(now | values, allow_unicode=True), encoding="utf-8")


def runs() -> Cases:
    """Run folders."""
    cases: Cases = {}
    for name in ("train", "before", "after", "stages", "injection", "probe", "baselines", "before/journal", "deep/x"):
        cases[f"folder {name}"] = lambda f, h, n=name: linked(f / n, h)
    for name in ("train.log", "lock", "before/swift.log", "train/logging.jsonl", "report.html", ".run.json.7.partial"):
        cases[f"file {name}"] = lambda f, h, n=name: linked(f / n, h / "thesis.txt")
        cases[f"pipe {name}"] = lambda f, h, n=name: piped(f / n)
    for command in ("sft", "infer"):
        for key, value in OPTIONS.items():
            cases[f"{command} {key}"] = lambda f, h, c=command, k=key, v=value: edited(f / f"{c}.yaml", **{k: v})
        for key, value in {"model": "stranger/model", "val_dataset": ["stranger/rows"], "adapters": ["a/b"]}.items():
            cases[f"{command} {key}"] = lambda f, h, c=command, k=key, v=value: edited(f / f"{c}.yaml", **{k: v})
        cases[f"{command} rows"] = lambda f, h, c=command: edited(f / f"{c}.yaml", val_dataset=[str(h / "x.py")])
        for place in ("{run}/evil.py", "../{name}/evil.py", "evil", "plugins/../{run}/evil.py"):
            cases[f"{command} plugin {place}"] = lambda f, h, c=command, p=place: (put(f / "evil.py", code(h)), edited(
                f / f"{c}.yaml", external_plugins=[p.format(run=f, name=f.name)]))[0]  # fmt: skip
    for name in VARIABLES:
        cases[f"ENV {name}"] = lambda f, h, n=name: edited(f / "sft.yaml", ENV={n: "evil"})
    cases["logging_dir"] = lambda f, h: edited(f / "sft.yaml", logging_dir=str(h / "out"))
    for task in ("../../thesis", "a/b", "..", 5, "x\0y"):
        cases[f"task {task!r}"] = lambda f, h, t=task: change(f / "run.json", task=t)
    return cases


def datasets() -> Cases:
    """Dataset folders."""
    cases: Cases = {}
    names = ("train.jsonl", "val.jsonl", "test.jsonl", "manifest.json", "rejects.csv", "README.md", "lengths.png",
             "class_balance.png", ".swift-sft.json", "audit-train.csv", "deep/x", "x")  # fmt: skip
    for name in names:
        cases[f"link {name}"] = lambda f, h, n=name: linked(f / n, h / "thesis.txt")
        cases[f"pipe {name}"] = lambda f, h, n=name: piped(f / n)
        cases[f"nowhere {name}"] = lambda f, h, n=name: linked(f / n, h / "none")
        cases[f"itself {name}"] = lambda f, h, n=name: linked(f / n, f / n)
    for name in ("extra", "deep/extra", ".extra"):
        cases[f"folder {name}"] = lambda f, h, n=name: linked(f / n, h)
    for key in ("images", "videos", "audios", "tools", "objects", "rejected_response", "channel", "system", "loss"):
        cases[f"row with {key}"] = lambda f, h, k=key: first_row(f, {k: [str(h / "thesis.txt")]})
    for key in ("loss", "tool_calls", "images"):
        cases[f"turn with {key}"] = lambda f, h, k=key: first_row(f, {}, {k: "x"})
    return cases


def first_row(folder: Path, row: dict[str, Any], turn: dict[str, Any] | None = None) -> None:
    """Put keys into the first row of every split, and into its first turn; the hashes of the manifest agree."""
    digests = {}
    for path in folder.glob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        first = json.loads(lines[0]) | row
        first["messages"][0] |= turn or {}
        path.write_text("\n".join([json.dumps(first, ensure_ascii=False), *lines[1:]]) + "\n", encoding="utf-8")
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    change(folder / "manifest.json", files=digests)


def recipes() -> Cases:
    """Folders with a task.yaml, a recipe `mine.yaml` and an override `over.yaml`."""
    cases: Cases = {}
    wanted = [*OPTIONS.items(), *(("ENV", {name: "evil"}) for name in VARIABLES)]
    wanted += [("external_plugins", [place]) for place in ("evil.py", "../evil.py", "/evil.py", "plugins/../evil.py")]
    for key, value in wanted:
        one = {key: value}
        cases[f"recipe {one}"] = lambda f, h, o=one: edited(f / "mine.yaml", **o)
        cases[f"override {one}"] = lambda f, h, o=one: edited(f / "over.yaml", sft=o)
        if key != "external_plugins":
            cases[f"task {one}"] = lambda f, h, o=one: edited(f / "task.yaml", sft=o)
    return cases
