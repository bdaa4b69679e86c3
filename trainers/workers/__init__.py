"""Workers of a cluster, started here or elsewhere."""
