"""The experiment that the flags describe: network, optimizer, run."""
