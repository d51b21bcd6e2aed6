"""Iterative target propagation (Bengio, Lee, Bornschein, Mesnard & Lin 2015, arXiv 1502.04156, v3)."""
