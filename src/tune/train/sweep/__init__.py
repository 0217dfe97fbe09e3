"""Many runs from one command: each trial a process of its own, what is done is not done again.

driver       run_sweep: start what is missing, settle how each trial ended
groups       which of them train as one (train/fused)
plan         which trials are done, failed or missing
ledger       the sweep folder, its lock, and the key under which a finished trial is found again
processes    the driver's end: trials as processes
server       the other end: one process with torch preloaded that forks a child per trial, and a guard that outlives it
shares       threads and GPUs of each trial
keep         of which trials the weights stay
causes       how a trial ended, in words
lines        what the driver says while it works
leaderboard  the table at the end and `summary.csv`
data_size    what a sweep over the share of the training rows says

Nothing here imports torch. The trial function is named by its dotted path and runs in the forked child only.
"""

from tune.train.sweep.driver import Options, SweepResult, Trial, run_sweep

__all__ = ["Options", "SweepResult", "Trial", "run_sweep"]
