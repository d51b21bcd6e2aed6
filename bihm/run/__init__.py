"""What each command does with a run directory: train, evaluate, sample, export, and what they share."""
