"""How far two samples of features are apart, each a differentiable scalar that is 0 for equal samples."""
