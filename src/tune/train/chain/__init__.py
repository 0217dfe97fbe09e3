"""Runs whose stages each start from the one before: `parts` are the runs of a chain, `run` runs what is missing of
them, `report` says what the stages gave."""
