"""Rotary position embedding (Su et al., 2021), in place."""

import torch


def half_turns(cos: torch.Tensor, sin: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first halves of `cos` and `sin` [..., head size], as float32: transformers holds each angle twice."""
    half = cos.shape[-1] // 2
    return cos[..., :half].float(), sin[..., :half].float()


def rotate(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, back: bool = False) -> None:
    """Turn `heads` [..., count, size] in place by the angles of `cos` and `sin` [..., 1, size / 2].

    (a, b) -> (a cos - b sin, b cos + a sin) for each pair a = heads[..., i], b = heads[..., i + size / 2]. `back` turns
    the other way, which is the gradient.
    """
    sign = -1.0 if back else 1.0
    first, second = heads.chunk(2, -1)
    before = first.clone()
    first.mul_(cos).addcmul_(second, sin, value=-sign)
    second.mul_(cos).addcmul_(before, sin, value=sign)
