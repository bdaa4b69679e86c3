"""GPipe (Huang et al., 2019, arXiv 1811.06965): all forward passes first."""

from fr_keras.schedules.work import BACKWARD, FORWARD, Work


def gpipe(num_modules, num_microbatches):
    """Returns the order of K modules and M micro-batches.

    Every module keeps all M micro-batches, and devices wait for 3τ (K - 1) / M
    per iteration, if τ is the time of a module's forward pass of the whole
    batch. K = 3, M = 4; a backward pass takes two boxes:

    ```
    module 1   1 2 3 4 . . . . . . 4 4 3 3 2 2 1 1
    module 2   . 1 2 3 4 . . . 4 4 3 3 2 2 1 1
    module 3   . . 1 2 3 4 4 4 3 3 2 2 1 1
    ```
    """
    parts = range(num_microbatches)
    return [
        [Work(FORWARD, k, m) for m in parts]
        + [Work(BACKWARD, k, m) for m in reversed(parts)]
        for k in range(num_modules)
    ]
