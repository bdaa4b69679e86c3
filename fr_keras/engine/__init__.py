"""The parts of an iteration: modules, queues, optimizers, placement."""
