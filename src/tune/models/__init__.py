"""Networks: a backbone that turns images into features, a head that turns features into logits.

To add a backbone or a head: one file in `backbones/` or `heads/` that implements `interface.py`, one YAML in
`conf/backbone` or `conf/head` that names the class as `_target_`.
"""
