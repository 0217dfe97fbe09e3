"""A trained network for use elsewhere. One more format: what writes and runs it in `formats`, and a word in the CLI."""
