"""The mathematics: p and q, their layers, the training rules, likelihood, sampling, the training step."""
