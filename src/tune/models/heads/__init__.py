"""Heads. To add one: a file here with a `Head`, a YAML in conf/head.

A head's signature may name the run-time facts `feature_dim`, `num_classes` and `dropout` (from regularize.dropout),
and `tasks` (name of each of data.tasks → its outputs); one that does tells them in its method `tasks`.
"""
