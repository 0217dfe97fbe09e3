"""A trained network for use elsewhere. A format more: what writes and runs it in `formats`, and a word in the verb."""
