"""Two finished runs side by side: what was set differently, and what the same rows say of them. Reads files alone."""
