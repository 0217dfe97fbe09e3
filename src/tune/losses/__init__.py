"""Losses and penalties. To add one: a file here with a `Loss`, a YAML in conf/loss.

A loss's signature may name the run-time facts `num_classes` and `class_counts` (rows per class of the training part).
"""
