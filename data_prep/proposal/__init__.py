"""From a table that nobody has described to a task.yaml: what each column is, the label words, the prompt."""
