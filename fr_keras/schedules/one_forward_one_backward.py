"""1F1B (PipeDream-Flush; Narayanan et al., 2021, arXiv 2006.09503)."""

from fr_keras.schedules.work import BACKWARD, FORWARD, Work


def one_forward_one_backward(num_modules, num_microbatches):
    """Returns the order of K modules and M micro-batches.

    A backward pass follows as soon as it can, so module k keeps K - k
    micro-batches at most, not M. Devices wait as long as in GPipe. K = 3,
    M = 4; a backward pass takes two boxes:

    ```
    module 1   1 2 3 . . . . 1 1 4 2 2 . 3 3 . 4 4
    module 2   . 1 2 . . 1 1 3 2 2 4 3 3 . 4 4
    module 3   . . 1 1 1 2 2 2 3 3 3 4 4 4
    ```
    """
    order = []
    for k in range(num_modules):
        ahead = min(num_modules - 1 - k, num_microbatches)
        work = [Work(FORWARD, k, m) for m in range(ahead)]
        for m in range(num_microbatches):
            if m + ahead < num_microbatches:
                work.append(Work(FORWARD, k, m + ahead))
            work.append(Work(BACKWARD, k, m))
        order.append(work)
    return order
