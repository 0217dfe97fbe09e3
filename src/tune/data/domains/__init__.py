"""Two sets of rows that one run learns from: a labelled source, and a target whose labels it may not know."""
