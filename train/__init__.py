"""From a recipe's name to a tuned adapter: resolve it for this machine, run `swift sft`, choose the checkpoint."""
