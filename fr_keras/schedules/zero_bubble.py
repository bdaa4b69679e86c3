"""Zero-bubble schedules (Qi et al., ICLR 2024, arXiv 2401.10241)."""

from fr_keras.schedules.work import BACKWARD, FORWARD, WEIGHTS, Work


def zero_bubble_h1(num_modules, num_microbatches):
    """Returns the order of K modules and M micro-batches of ZB-H1.

    As 1F1B, but the gradients of weights are computed later: those of module k,
    from 0, k micro-batches later. All modules keep K micro-batches, and for
    M >= K devices wait for τ (K - 1) / M per iteration. K = 3, M = 4 (1, 2, 3,
    4: forward; a, b, c, d: gradients of inputs, A, B, C, D: of weights):

    ```
    module 1   1 2 3 . . a A 4 b B c C d D
    module 2   . 1 2 . a 3 b A 4 c B d C D
    module 3   . . 1 a 2 b 3 c A 4 d B C D
    ```
    """
    return _order(num_modules, num_microbatches, 1)


def zero_bubble_h2(num_modules, num_microbatches):
    """Returns the order of K modules and M micro-batches of ZB-H2.

    Twice as many forward passes begin before the first backward pass, and
    gradients of weights are twice as late. All modules keep 2 K - 1
    micro-batches, and for M >= 2 K - 1 devices never wait: the next iteration
    of module k begins while modules above it are still at this one. K = 3,
    M = 6:

    ```
    module 1   1 2 3 4 5 a A 6 b B c C d D e E f F
    module 2   . 1 2 3 a 4 b 5 c A 6 d B e C f D E F
    module 3   . . 1 a 2 b 3 c 4 d 5 e A 6 f B C D E F
    ```
    """
    return _order(num_modules, num_microbatches, 2)


def _order(num_modules, num_microbatches, factor):
    # The gradients of weights fill the time in which devices would wait.
    order = []
    for k in range(num_modules):
        ahead = min(factor * (num_modules - 1 - k), num_microbatches)
        late = factor * k
        work = [Work(FORWARD, k, m) for m in range(ahead)]
        for m in range(num_microbatches + late):
            if m + ahead < num_microbatches:
                work.append(Work(FORWARD, k, m + ahead))
            if m < num_microbatches:
                work.append(Work(BACKWARD, k, m))
            if 0 <= m - late < num_microbatches:
                work.append(Work(WEIGHTS, k, m - late))
        order.append(work)
    return order
