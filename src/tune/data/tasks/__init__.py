"""Further tasks of a row beside its label: what they are (task), and how a column becomes one (columns)."""
