"""The chat that a row becomes: prompt, token lengths, control tokens, injected instructions."""
