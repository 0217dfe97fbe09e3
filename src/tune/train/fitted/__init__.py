"""Runs whose head is fitted to all training rows at once: what they cannot have, and how they go."""
