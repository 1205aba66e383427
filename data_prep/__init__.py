"""From a table of labelled texts to train, val and test as ms-swift chat JSONL, nothing lost in silence."""
