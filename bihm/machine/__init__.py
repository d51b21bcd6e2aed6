"""The mathematics: p and q, their layers, the rules, likelihood, sampling, training; target propagation."""
