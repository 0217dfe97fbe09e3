"""Trials that differ only in what happens behind the frozen network train as one: K heads in one LightningModule.

group    which trials can train together, read from their configs (no torch)
run      the story of a group: prepare once, train, test, leave each trial its run folder
trial    one of the K: its schedule, its best epoch, when it stops, its files
heads    K heads of one shape as stacked parameters
blocks   which of them run in one go: equal loss and dropout, equally many for each seed
optim    K optimizers of one kind, their hyper-parameters as vectors
learner  the LightningModule

Each trial ends as it would have ended alone; a group that cannot train as one is left to its trials.
"""
