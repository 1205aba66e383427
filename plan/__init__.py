"""A recipe and a machine become a run folder: options, recipes, hardware, kernels, disk, memory."""
