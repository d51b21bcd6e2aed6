"""The two families of models, as a run uses them, and which one a configuration asks for."""
