"""Attacks on images: how they are made (`attacks`), on what (`gradients`), and what they do to a run (`measure`)."""
