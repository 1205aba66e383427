"""An encoder (BERT and its kind) as ms-swift tunes and asks it: a folder's limits, its rows, the keys of both commands.

It is tuned by the means of a classification head, with all of its weights, and reads the text alone: the tokens that
its tokenizer puts around a text by itself ([CLS] and [SEP]) and no prompt.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.chat.prompt import control_pattern, neutralise
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.chat.truncation import fit_reviews
from data_prep.manifest import Manifest
from data_prep.rows import DatasetRow, write_rows
from eval.scoring.responses import Split, SplitName
from plan.hardware import Machine, dtype_flags
from plan.resolve import HEAD_PLUGIN, one_device
from plan.resolve_infer import GPU_INFER_BATCH
from plan.result_values import ROW_CHECK
from workspace.errors import UserError
from workspace.files import sha256_file
from workspace.paths import ROOT, shown
from workspace.records import read

# ms-swift's names of kinds of model: of most encoders it knows nothing apart, and loads them as it loads BERT.
KINDS = {"modernbert": "modern_bert"}
OTHER_KINDS, TEMPLATE = "bert", "dummy"  # the template puts nothing around a text
# Their positions begin behind the padding token's number: of 514 they have 512 for tokens.
OFFSET = ("camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "xmod")
UNLIMITED = 1_000_000  # what a tokenizer says that has no limit is far above that
# Devlin et al. (2019), appendix A.3: all tasks were served by 2 to 4 epochs at 2e-5 to 5e-5 in batches of 16 or 32.
EPOCHS, LEARNING_RATE, BATCH = 4, 3e-5, 16
PLUGINS = ("label_metric.py", "safe_checkpoints.py")


class Encoder(NamedTuple):
    """An encoder's folder, ms-swift's name of its kind, the tokens of the longest text that it takes, and how many of
    these are the tokenizer's own."""

    folder: Path
    kind: str
    max_length: int
    own_tokens: int


def read_encoder(folder: Path) -> Encoder:
    """What the encoder in a model's folder takes. Raises `UserError` for another kind of model."""
    config = read(folder / "config.json", dict[str, Any], "download the model again")
    if not (folder / "tokenizer.json").is_file():
        raise UserError(
            f"--model {shown(folder)} has no tokenizer.json: load it with transformers' AutoTokenizer, which makes one "
            "of vocab.txt, and save it there with save_pretrained"
        )
    from transformers import AutoTokenizer
    from transformers.models.auto import modeling_auto as known

    family = str(config.get("model_type"))
    both = known.MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys() & known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.keys()
    others = known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys()
    if family not in both - others or config.get("is_decoder"):
        raise UserError(
            f"--model {shown(folder)} is a model of the kind {family}, which is no encoder: name a BERT, RoBERTa, "
            "ELECTRA, DeBERTa or ModernBERT"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    positions = int(config.get("max_position_embeddings") or UNLIMITED)
    if any(name in family for name in OFFSET):
        positions -= int(config.get("pad_token_id") or 0) + 1
    own = tokenizer.num_special_tokens_to_add()
    limit = min(positions, int(min(tokenizer.model_max_length, UNLIMITED)))
    if limit <= own:
        raise UserError(f"--model {shown(folder)} takes {limit} tokens, too few for any text: name another encoder")
    return Encoder(folder, KINDS.get(family, OTHER_KINDS), limit, own)


def write_encoder_rows(
    folder: Path, dataset: Path, splits: Mapping[SplitName, Split], labels: Sequence[str], encoder: Encoder
) -> int:
    """Write what the encoder learns from and is asked as a dataset in `folder`; how many rows were cut for it.

    `splits`: of `dataset`, with the texts as the language model is shown them. A text that is longer than the encoder
    takes loses its middle, as in the prompt; its control tokens in a text are made harmless.
    """
    tokenizer, manifest = ModelTokenizer(encoder.folder), Manifest.read(dataset)
    pattern, cut, files = control_pattern(tokenizer.control_tokens), 0, {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        texts = [neutralise(text, pattern) or " " for text in split.reviews]
        fitted = fit_reviews(texts, str, tokenizer, encoder.max_length, manifest.keep_head, beside=encoder.own_tokens)
        rows = [
            DatasetRow(
                [{"role": "user", "content": fitted.cuts.get(at, text)}, {"role": "assistant", "content": gold}],
                key,
                text,
                bool(fitted.cut[at]),
                labels.index(gold),
            )
            for at, (key, gold, text) in enumerate(zip(split.ids, split.gold, texts, strict=True))
        ]
        write_rows(folder / f"{name}.jsonl", rows)
        files[f"{name}.jsonl"] = sha256_file(folder / f"{name}.jsonl")
        cut += len(fitted.cuts)
    manifest.model_copy(update={"files": files}).write(folder)
    return cut


def sft_values(
    encoder: Encoder, rows: Path, out: Path, labels: int, validated: bool, machine: Machine, metric: str, seed: int
) -> dict[str, Any]:
    """The keys of `swift sft`: the rows in the folder `rows`, checkpoints to `out`, chosen by the task's `metric` where
    there are validation rows."""
    values = {
        **dtype_flags(machine, float32_weights=True),
        **_loaded(encoder),
        "task_type": "seq_cls",
        "num_labels": labels,
        "tuner_type": "full",
        "dataset": [str(rows / "train.jsonl")],
        "max_length": encoder.max_length,
        "truncation_strategy": "delete",  # no row is: they are cut already
        "split_dataset_ratio": 0,
        "dataset_num_proc": 1,
        "dataloader_num_workers": 0,
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "gradient_accumulation_steps": 1,
        "optim": "adamw_torch",
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "group_by_length": True,
        "seed": seed,
        "data_seed": seed,
        "eval_strategy": "no",
        "external_plugins": [str(HEAD_PLUGIN), *(str(ROOT / "plugins" / name) for name in PLUGINS)],
        "callbacks": ["safe_checkpoints", ROW_CHECK],
        "output_dir": str(out),
        "add_version": False,
        "save_strategy": "epoch",
        "save_total_limit": 2,  # the best and the last: each is a whole model
        "logging_steps": 5,
        "report_to": "none",
        "check_model": False,
    }
    chosen = {
        "val_dataset": [str(rows / "val.jsonl")],
        "eval_strategy": "epoch",
        "eval_metric": "label",
        "metric_for_best_model": f"label_{metric}",
        "greater_is_better": True,
        "load_best_model_at_end": True,
    }
    return values | (chosen if validated else {}) | one_device(values, machine)


def infer_values(encoder: Encoder, rows: Path, machine: Machine) -> dict[str, Any]:
    """The keys of `swift infer`: in float32, like the language model's where it is not too large for that."""
    batch = GPU_INFER_BATCH if machine.gpu else BATCH
    rest = {"torch_dtype": "float32", "val_dataset": [str(rows / "test.jsonl")], "max_batch_size": batch}
    return _loaded(encoder) | rest | one_device(dtype_flags(machine), machine)


def _loaded(encoder: Encoder) -> dict[str, Any]:
    return {"model": str(encoder.folder), "model_type": encoder.kind, "template": TEMPLATE}
