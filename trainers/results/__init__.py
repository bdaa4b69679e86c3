"""Results of runs: history, event files, comparisons."""
