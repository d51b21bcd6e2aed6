"""What each command does with a run directory, by its name; in folders what each needs alone."""
