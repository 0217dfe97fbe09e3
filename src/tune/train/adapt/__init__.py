"""What a transfer method needs of a run besides its batches."""
