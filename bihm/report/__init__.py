"""One page that shows what runs are worth: files read, a few estimates made, plots and pictures drawn."""
