"""The machines that a run is planned for in tests, as torch and the system would describe them, and what follows.

Run as: python -m tests.plan.faked_machines
It writes tests/plan/machines/*.yaml and the table of docs/gpu-and-scale.md anew.

No figure here was measured but those of the AVX-512 processor, which are of docs/results.md; memory, capability and
names are the makers'.
"""

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import yaml
from tokenizers import Tokenizer, models, pre_tokenizers

from doctor import environment, resources
from plan import gpu_kernels, planning
from plan.cpu_kernels import Precision
from plan.gpus import Gpus, judge
from plan.hardware import Machine, this_machine
from plan.options import parse_options
from plan.recipes import MODELS
from workspace.errors import UserError
from workspace.paths import ROOT

GOLDEN = Path(__file__).with_name("machines")
PAGE, BEGIN, END = ROOT / "docs" / "gpu-and-scale.md", "<!-- machines -->\n", "<!-- end of machines -->\n"
# The pinned torch's build for CUDA 13.0; its build for ROCm, shortened.
CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
ROCM = ("gfx90a", "gfx942", "gfx1100")
Card = tuple[str, float, float, tuple[int, int]]  # name, memory and what is free of it in GiB, compute capability


class Fake(NamedTuple):
    """A machine: its cards, else its processor, and what plan.cpu_kernels measures on that.

    `knows`: the CUDA that a driver knows which is too old for torch to see the cards, as torch's warning says it.
    """

    cards: tuple[Card, ...] = ()
    built_for: tuple[str, ...] = CUDA_13
    cpu: str = "a server's processor"
    cores: int = 16
    memory_gib: float = 64.0
    precision: Precision | None = None
    other_device: str = ""
    knows: int | None = None


def measured(float32: float, onednn: float, bf16: float, attention: float) -> Precision:
    """GFLOP/s of three repeats without any spread."""
    return Precision([float32] * 3, [onednn] * 3, [bf16] * 3, 4e-7, [attention] * 3)


T4 = ("Tesla T4", 14.6, 14.5, (7, 5))
A100 = ("NVIDIA A100-SXM4-80GB", 79.2, 78.8, (8, 0))
RTX_4090 = ("NVIDIA GeForce RTX 4090", 23.5, 23.1, (8, 9))
AVX2 = measured(62, 60, 10, 1.5)
MACHINES = {
    "T4": Fake((T4,), cores=4, memory_gib=16.0),
    "V100": Fake((("Tesla V100-SXM2-16GB", 15.8, 15.7, (7, 0)),)),
    "RTX 3060": Fake((("NVIDIA GeForce RTX 3060", 11.6, 11.2, (8, 6)),), cores=12, memory_gib=32.0),
    "RTX 4090": Fake((RTX_4090,)),
    "A100": Fake((A100,)),
    "H100": Fake((("NVIDIA H100 80GB HBM3", 79.2, 78.7, (9, 0)),)),
    "2 x T4": Fake((T4, T4), memory_gib=32.0),
    "8 x A100": Fake((A100,) * 8, cores=96, memory_gib=1000.0),
    "RTX 4090 + GT 1030": Fake((("NVIDIA GeForce GT 1030", 2.0, 1.8, (6, 1)), RTX_4090)),
    "H100 slice (MIG)": Fake((("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.8, 9.7, (9, 0)),)),
    "GB10": Fake((("NVIDIA GB10", 119.6, 112.3, (12, 1)),), cores=20, memory_gib=119.6),
    "RTX 5090, driver 570": Fake((("NVIDIA GeForce RTX 5090", 31.4, 30.9, (12, 0)),), knows=12080),
    "GTX 1650, driver 470": Fake((("NVIDIA GeForce GTX 1650", 3.8, 3.6, (7, 5)),), cores=8, knows=11040),
    "RTX 4090, driver 550": Fake((RTX_4090,), knows=12040),
    "A100, shared": Fake((("NVIDIA A100-SXM4-80GB", 79.2, 21.4, (8, 0)),)),
    "CPU, AVX2": Fake(cpu="a processor with AVX2", cores=8, memory_gib=16.0, precision=AVX2),
    "CPU, AVX-512": Fake(cpu="AMD EPYC", cores=2, memory_gib=24.0, precision=measured(150, 193, 396, 1.6)),
    "CPU, AMX": Fake(cpu="a processor with AMX", cores=16, memory_gib=128.0, precision=measured(900, 950, 4000, 1.6)),
    "Apple M": Fake(cpu="Apple M3", cores=8, memory_gib=16.0, precision=measured(400, 390, 300, 1.1),
                    other_device="Apple's GPU (MPS)"),
    "Ascend": Fake(cpu="Kunpeng-920", cores=24, precision=measured(200, 200, 20, 1.1), other_device="the Ascend NPU"),
    "ROCm": Fake((("AMD Instinct MI300X", 191.7, 191.0, (9, 4)),), ROCM, memory_gib=256.0),
}  # fmt: skip
# Of each recipe's model: its config.json, as its maker has published it, and the bytes of its weights.
QWEN = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "torch_dtype": "bfloat16", "vocab_size": 151936}
SMALL = {**QWEN, "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 2816,
         "num_key_value_heads": 16}  # fmt: skip
SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "minimind2-small": ({**QWEN, "torch_dtype": "float16", "hidden_size": 512, "num_hidden_layers": 8, "vocab_size":
                         6400, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 1408},
                        51_000_000),
    "qwen1.5-0.5b-chat": (SMALL, 927_975_424),
    "qwen1.5-0.5b-seqcls": (SMALL, 927_975_424),
    "qwen2.5-0.5b-instruct": ({**QWEN, "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
                               "num_key_value_heads": 2, "intermediate_size": 4864}, 988_065_536),
    "qwen2.5-7b-qlora": ({**QWEN, "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
                          "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064}, 15_231_233_024),
    "qwen3-0.6b": ({**QWEN, "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "hidden_size": 1024,
                    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
                    "intermediate_size": 3072}, 1_192_099_840),
}  # fmt: skip


class Planned(NamedTuple):
    """What a machine is given for a recipe: the keys of both commands, or why it is refused; what doctor says."""

    sft: dict[str, Any]
    infer: dict[str, Any]
    refused: str
    doctor: tuple[str, ...]
    dataset: Path = Path()


def model_folder(folder: Path, stem: str) -> Path:
    """A model of a recipe's shape: weights as long as the real ones and empty, a tokenizer of bytes."""
    config, size = SHAPES[stem]
    folder = folder / stem
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with open(folder / "model.safetensors", "wb") as stream:
        stream.truncate(size)  # takes no room
    bytes_alone = {one: at for at, one in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=bytes_alone, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def machine_of(fake: Fake) -> Machine:
    """The machine as plan.hardware describes it."""
    cards = [
        {"number": at, "name": name, "memory_gib": memory, "free_gib": free, "capability": capability}
        for at, (name, memory, free, capability) in enumerate(fake.cards)
    ]
    said = {"build": "2.13.0", "architectures": list(fake.built_for), "cards": cards, "warnings": []}
    if fake.knows:
        old = f"CUDA initialization: The NVIDIA driver on your system is too old (found version {fake.knows})."
        said |= {"cards": [], "warnings": [old], "capabilities": [card[3] for card in fake.cards]}
    with (
        patch.multiple(
            "plan.hardware",
            find_gpus=lambda: judge(said) if cards else Gpus(),
            _cpu_name=lambda: fake.cpu,
            _memory_gib=lambda: fake.memory_gib,
            _other_device=lambda: fake.other_device,
        ),
        patch("os.sched_getaffinity", lambda _: range(fake.cores)),
    ):
        return this_machine()


def plan_for(name: str, stem: str, model: Path, words: Sequence[str] = (), liger: bool = False) -> Planned:
    """What machine `name` is given for hotel_reviews with the recipe `stem`, whose model lies in `model`.

    flash-attn is not installed, and liger-kernel where `liger` says so.
    """
    fake = MACHINES[name]
    machine = machine_of(fake)
    doctor, sft, infer, refused, dataset = [environment.hardware(machine).line()], {}, {}, "", Path()
    with _made_up(machine, fake, model, liger):
        try:
            plan = planning.make_plan(parse_options([f"hotel_reviews/{stem}", "--csv", "my.csv", *words]), [])
        except UserError as error:
            refused = str(error)
        else:
            dataset = plan.run.dataset
            places = {str(model): "MODEL", str(dataset): "DATASET", str(plan.run.folder): "RUN"}
            sft, infer = (_placed(values, places) for values in (plan.sft, plan.infer))
            doctor.append(resources.memory(machine, plan.sft, model).line())
    return Planned(sft, infer, refused, tuple(doctor), dataset)


@contextlib.contextmanager
def _made_up(machine: Machine, fake: Fake, model: Path, liger: bool) -> Iterator[None]:
    """The machine in the place of this one; nothing is looked for in a hub, hashed or measured."""
    free = SimpleNamespace(available=0.9 * fake.memory_gib * 2**30)
    with (
        patch.multiple(
            "plan.planning",
            this_machine=lambda: machine,
            cpu_precision=lambda _: fake.precision if machine.gpu is None else None,
            _model_folder=lambda *_: model,
            check_packages=lambda _: None,
            check_space=lambda *_: None,
            needed_space=lambda *_: [],
            fingerprint=lambda _: "",
            software=dict,
            check_run_folder=lambda *_: None,
        ),
        patch.multiple(
            "plan.resolve",
            gpu_attention=partial(gpu_kernels.gpu_attention, works=lambda: False),
            fused_layers=partial(gpu_kernels.fused_layers, works=lambda: liger),
        ),
        patch("psutil.virtual_memory", lambda: free),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        yield


def _placed(values: dict[str, Any], places: dict[str, str]) -> dict[str, Any]:
    """The values with names in the place of folders."""
    text = json.dumps(values, ensure_ascii=False)
    for place, name in {**places, f"{ROOT}/": ""}.items():
        text = text.replace(place, name)
    return json.loads(text)


def golden(stem: str, planned: dict[str, Planned]) -> str:
    """The text of a recipe's file: what is common to all machines once, then what each has of its own."""
    lines = [f"# hotel_reviews/{stem}: what `swift sft` and `swift infer` are given, and what doctor says, by machine.",
             "# Written anew by: python -m tests.plan.faked_machines"]  # fmt: skip
    taken = {name: one for name, one in planned.items() if not one.refused}
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {"doctor": list(one.doctor)} for name, one in planned.items()}
    for command in ("sft", "infer"):
        every = [getattr(one, command) for one in taken.values()]
        common[command] = {
            key: value for key, value in every[0].items() if all(one.get(key, ...) == value for one in every)
        }
        for name, one in taken.items():
            own[name][command] = {k: v for k, v in getattr(one, command).items() if k not in common[command]}
    for name, one in planned.items():
        same = next(other for other in planned if planned[other][:3] == one[:3])
        if one.refused:
            own[name]["refused"] = one.refused
        elif same != name:
            own[name] = {"doctor": list(one.doctor), "given": f"as {same}"}
    text = yaml.safe_dump({"common": common, "machines": own}, allow_unicode=True, sort_keys=False, width=10_000)
    return "\n".join([*lines, re.sub(r"^(?=  \S.*:$)", "\n", text, flags=re.MULTILINE)])


def doctors_lines(planned: dict[str, Planned]) -> str:
    """What doctor says of each machine, as a table in Markdown."""
    rows = [f"| {name} | {one.doctor[0].split('machine: ', 1)[1]} |" for name, one in planned.items()]
    return "\n".join(["| machine | doctor |", "|---|---|", *rows, ""])


def main() -> None:
    """Write every golden file and the page's table."""
    for stem in sorted(path.stem for path in MODELS.glob("*.yaml")):
        with tempfile.TemporaryDirectory() as scratch:
            model = model_folder(Path(scratch), stem)
            planned = {name: plan_for(name, stem, model) for name in MACHINES}
        (GOLDEN / f"{stem}.yaml").write_text(golden(stem, planned), encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{doctors_lines(planned)}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
