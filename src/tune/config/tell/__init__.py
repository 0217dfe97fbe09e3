"""What a config can tell of itself: who reads a key, where its value comes from, how to write it down as a file."""
