"""What each command does with a run directory, by its name; what they share, and in folders what each needs alone."""
