"""What a run leaves: history, event files, comparisons."""
