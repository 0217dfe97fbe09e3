"""What a value of one group means for the others: repetitions of a run, further targets, heads that take no steps."""
