"""`pictures/` of a run: its surest mistakes and what decided them, and training images as augmentation changes them."""
