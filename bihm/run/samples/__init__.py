"""How samples and completions are asked for and drawn."""
