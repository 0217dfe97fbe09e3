"""A few steps of the real training, on a prepared run that is afterwards what it was before: for rates and checks."""
