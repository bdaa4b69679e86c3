"""Building blocks of an iteration: modules, queues, optimizers, placement."""
