"""What a run leaves behind: checkpoints, weights, logs, results and pictures, each written whole."""
