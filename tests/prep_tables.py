"""Small tables, tasks and a tokenizer for the tests of data_prep."""

import functools
from pathlib import Path

import pytest
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from data_prep.task import Task, load_task

REAL = Path(__file__).resolve().parents[2] / "shared"
REAL_TABLE = REAL / "data" / "ChnSentiCorp_htl_all.csv"
needs_real = pytest.mark.skipif(not REAL_TABLE.is_file(), reason="the real table is not beside the repository")

SETTINGS = {
    "name": "small",
    "columns": {"text": "review", "label": "label"},
    "labels": {"1": "正面", "0": "负面"},
    "system": "You are a helpful assistant.",
    "prompts": {"original": "评论内容: {review} 这条评论是正面还是负面？", "clean": "评论：{review}\n情感倾向："},
    "prompt": "original",
    "default_recipe": "any",
}


def write_task(folder: Path, **changes: object) -> Path:
    """A task.yaml with SETTINGS, `changes` put in; a change to None takes the key out."""
    settings = {key: value for key, value in (SETTINGS | changes).items() if value is not None}
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def small_task(folder: Path, **changes: object) -> Task:
    return load_task(write_task(folder, **changes))


def reviews(count: int, start: int = 0) -> list[tuple[str, str]]:
    """(label, text) rows, all of them different, the labels in turn."""
    words = [
        "房间",
        "早餐",
        "服务",
        "位置",
        "价格",
        "前台",
        "大堂",
        "环境",
        "卫生",
        "设施",
        "空调",
        "电梯",
        "隔音",
        "热水",
    ]
    rows = []
    for at in range(start, start + count):
        picked = [words[(at * step + at // 7) % len(words)] for step in (1, 3, 7, 9)]
        rows.append(
            (str(at % 2), f"{at}号客人说{'和'.join(picked)}{'很好' if at % 2 else '很差'}，第{at * 7919 % 10007}次来")
        )
    return rows


def write_csv(path: Path, rows: list[tuple[str, str]], encoding: str = "utf-8") -> Path:
    lines = ["label,review", *(f'{label},"{text}"' for label, text in rows)]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


@functools.cache
def _trained(control_tokens: tuple[str, ...]) -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text for _, text in reviews(300)] + [SETTINGS["prompts"]["original"]] * 20, trainer)
    tokenizer.add_special_tokens([AddedToken(one, special=True) for one in control_tokens])
    return tokenizer.to_str()


def byte_level(control_tokens: tuple[str, ...]) -> Tokenizer:
    """A small byte-level tokenizer with control tokens."""
    return Tokenizer.from_str(_trained(control_tokens))


def write_model(folder: Path) -> Path:
    """A model's folder with nothing but a small byte-level tokenizer in it."""
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(
        _trained(("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|only_mine|>")), encoding="utf-8"
    )
    return folder
