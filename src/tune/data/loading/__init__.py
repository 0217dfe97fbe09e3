"""From rows of a table to batches."""
