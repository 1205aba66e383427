"""Attention without copies, against the models' own, in a process of its own: the plugin changes transformers there."""

import subprocess
import sys

import pytest

from workspace.paths import ROOT

pytestmark = pytest.mark.swift

COMPARED = """
import sys
import torch
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

kind = sys.argv[1]
config = AutoConfig.for_model(
    kind, vocab_size=50, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, initializer_range=0.5, attn_implementation="eager", pad_token_id=0,
)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
ids = torch.randint(1, 50, (5, 12))
mask = torch.ones_like(ids)
mask[1, :4] = mask[3, :7] = 0


def answers():
    with torch.inference_mode():
        first = model(input_ids=ids, attention_mask=mask, use_cache=True)
        seen = torch.cat([mask, mask.new_ones(5, 1)], 1)
        second = model(input_ids=ids[:, -1:], attention_mask=seen, past_key_values=first.past_key_values)
    kept = mask.bool()
    return torch.cat([first.logits[kept], second.logits[:, -1]])


own = answers()
import grouped_attention
calls = []
counted = lambda *args, **kwargs: calls.append(1) or torch.bmm_(*args, **kwargs)
torch.bmm_, torch.bmm = torch.bmm, counted
grouped = answers()
print(bool(torch.allclose(own, grouped, rtol=1e-4, atol=1e-4)), len(calls))
"""


@pytest.mark.parametrize(("kind", "products"), [("qwen2", 8), ("qwen3", 8), ("llama", 8), ("gemma2", 0)])
def test_logits_are_those_of_the_models_own_attention(kind: str, products: int) -> None:
    """Two layers, a pass and a step, two products each: 8. Gemma 2 caps its weights and keeps its own function."""
    done = subprocess.run([sys.executable, "-c", COMPARED, kind], capture_output=True, text=True, cwd=ROOT / "plugins")
    assert done.stdout.split() == ["True", str(products)], done.stderr[-2000:]
