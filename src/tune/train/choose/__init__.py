"""Which backbone, and how much of it should train, from what a frozen one says of the images before anything trains.

`look` runs it once, `rank` compares backbones and layers, `rule` decides among deep, mid and full, `auto` asks it.
"""
