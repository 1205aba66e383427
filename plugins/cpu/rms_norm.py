"""Division by the root mean square (Zhang and Sennrich, 2019), and its gradient."""

import torch


def inverse_root(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The inverse of the root mean square of float32 `x` over its last dimension, which is kept with size one."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()


def normed(x: torch.Tensor, epsilon: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 `x` over the root mean square of its last dimension, in `dtype`; and the inverse of that root."""
    inverse = inverse_root(x, epsilon)
    return (x * inverse).to(dtype), inverse


def normed_gradient(gradient: torch.Tensor, result: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    """The gradient of `x`, float32, for that of the result: what lies along the result does not change it."""
    gradient, result = gradient.float(), result.float()
    along = (gradient * result).mean(-1, keepdim=True)
    return torch.addcmul(gradient, result, along, value=-1).mul_(inverse)
