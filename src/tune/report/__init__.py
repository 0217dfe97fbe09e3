"""What the files of a finished run say. Nothing here looks at a live object, or imports torch."""
