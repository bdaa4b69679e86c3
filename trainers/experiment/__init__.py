"""What the flags of a training describe: network, optimizer, run."""
