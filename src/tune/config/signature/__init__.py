"""What a class or function takes, read from its source: where it stands, what it names, which values it allows."""
