"""Lets Hydra find tune's configs: the user's folder first, then the shipped one."""
