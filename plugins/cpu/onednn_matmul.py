"""External plugin for `swift sft` and `swift infer` on a CPU: float32 matrix products by oneDNN in place of MKL.

MKL runs its AVX2 code on processors that are not Intel's; oneDNN uses all that the processor has. torch takes oneDNN
for float32 where the precision "medium" is allowed. On a CPU with AMX that would round the factors to bfloat16, so
plan/cpu_kernels.py names this plugin only where it measured float32's own accuracy, and more speed.
"""

import torch

torch.set_float32_matmul_precision("medium")
