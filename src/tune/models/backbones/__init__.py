"""Backbones. To add one: a file here with a `Backbone`, a YAML in conf/backbone."""
