"""What is measured of a run when its training is over: attacks on it, and its test part again."""
