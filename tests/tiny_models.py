"""Tiny random models of the families that transformers knows by itself, and a BERT: as code, or as whole folders."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.prep_tables import byte_level

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SHAPE |= {"num_key_value_heads": 2, "initializer_range": 0.5, "pad_token_id": 0}
WINDOW = 8  # tokens that a sliding layer sees


def random_model(family: str, vocabulary: int) -> Any:
    """A causal language model of a family with random weights, the same ones at each call."""
    import transformers

    name, settings = CAUSAL[family]
    config = getattr(transformers, f"{name}Config")(vocab_size=vocabulary, **{**SHAPE, **settings})
    torch.manual_seed(0)
    return getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")(config).eval()


CAUSAL: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "llama": ("Llama", {}),
    "gemma3": ("Gemma3Text", {"head_dim": 8, "sliding_window": WINDOW, "sliding_window_pattern": 2}),
    "mistral": ("Mistral", {"sliding_window": WINDOW}),
    "phi3": ("Phi3", {"sliding_window": WINDOW}),
    "glm": ("Glm", {"head_dim": 8}),
    "lfm2": ("Lfm2", {"layer_types": ["conv", "full_attention"]}),  # a state instead of keys and values
}


class Folder(NamedTuple):
    """What a model's folder of a family says of its chat: ms-swift's names, control tokens, its own chat template."""

    model_type: str
    template: str
    tokens: tuple[str, ...]
    bos: str | None
    eos: str
    chat: str | None = None
    puts_bos: bool = False  # before each text, by itself


CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
HEADERS = "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
FOLDERS = {
    "qwen2": Folder("qwen2", "qwen2_5", CHATML, None, "<|im_end|>"),
    "qwen3": Folder("qwen3", "qwen3", (*CHATML, "<think>", "</think>"), None, "<|im_end|>"),
    "llama": Folder(
        "llama", "llama3", ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>", "<|eot_id|>",
        "{{ bos_token }}{% for m in messages %}" + HEADERS + "{% endfor %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        True,
    ),
    "gemma3": Folder(
        "gemma3_text", "gemma3_text", ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", None,
        True,
    ),
    "mistral": Folder(
        "mistral", "llama", ("<s>", "</s>"), "<s>", "</s>",
        "{{ bos_token }}{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('no') }}{% endif %}"
        "[INST] {{ m.content }} [/INST]{% endfor %}",
        True,
    ),
    "phi3": Folder(
        "phi3", "phi3", ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), "<s>",
        "<|endoftext|>", "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}<|assistant|>\n",
    ),
    "glm": Folder(
        "glm_edge", "chatglm4", ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"), None,
        "<|endoftext|>",
    ),
}  # fmt: skip


def write_folder(folder: Path, family: str) -> Path:
    """A whole model of a family in `folder`: random weights, a small tokenizer with the family's control tokens."""
    said = FOLDERS[family]
    tokenizer = byte_level(said.tokens)
    ids = {token: tokenizer.token_to_id(token) for token in said.tokens}
    if said.puts_bos:
        tokenizer.post_processor = processors.TemplateProcessing(f"{said.bos} $A", None, [(said.bos, ids[said.bos])])
    model = random_model(family, tokenizer.get_vocab_size())
    model.config.eos_token_id = model.generation_config.eos_token_id = ids[said.eos]
    model.config.bos_token_id = model.generation_config.bos_token_id = ids.get(said.bos)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": said.eos, "pad_token": said.tokens[0]}
    settings |= {"bos_token": said.bos} if said.bos else {}
    settings |= {"chat_template": said.chat} if said.chat else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_bert(folder: Path, texts: Iterable[str], max_length: int = 64) -> Path:
    """A whole BERT in `folder`: random weights, and a WordPiece vocabulary of the characters of `texts`."""
    import transformers

    words = dict.fromkeys([*BERT_TOKENS, "a", *sorted({one for text in texts for one in text if not one.isspace()})])
    tokenizer = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    tokenizer.add_special_tokens(list(BERT_TOKENS))
    shape = {key: value for key, value in SHAPE.items() if key != "num_key_value_heads"}
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), max_position_embeddings=max_length, **{**shape, "initializer_range": 0.1}
    )
    torch.manual_seed(0)
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {f"{token[1:-1].lower()}_token": token for token in BERT_TOKENS} | {"model_max_length": max_length}
    settings |= {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
