"""A run from its first step to its end: the loop, what ends it, how it goes on, and on what it runs."""
