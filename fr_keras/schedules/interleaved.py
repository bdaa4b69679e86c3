"""Interleaved 1F1B (Narayanan et al., 2021, arXiv 2104.04473, section 2.2)."""

from fr_keras.schedules.work import BACKWARD, FORWARD, Work


def interleaved_1f1b(num_modules, num_microbatches, num_devices):
    """Returns the order of K modules on D devices, and M micro-batches.

    Device d, from 1, has the modules d, d + D and so on. Micro-batches go up in
    groups of D, each group K / D times round the devices. If τ is the time of
    all forward passes on a device, devices wait for 3τ (D - 1) D / (M K) per
    iteration. K = 4, D = 2, M = 4 (1 to 4: micro-batches, in the first D
    modules; 5 to 8: the same in the others; a backward pass takes two boxes):

    ```
    device 1   1 2 5 6 3 . 5 5 4 6 6 7 1 1 8 2 2 . 7 7 . 8 8 3 3 4 4
    device 2   . 1 2 5 5 5 6 6 6 3 1 1 4 2 2 7 7 7 8 8 8 3 3 4 4
    ```

    Raises:
        ValueError: if K or M is not a multiple of D.
    """
    D, M = num_devices, num_microbatches
    if num_modules % D or M % D:
        raise ValueError(
            "With `schedule='interleaved-1f1b'`, `num_modules` and "
            "`num_microbatches` must be multiples of the number of devices. "
            f"Received: num_modules={num_modules}, num_microbatches={M}, "
            f"{D} devices"
        )
    turns = num_modules // D
    visits = [
        (turn, first + i)
        for first in range(0, M, D) for turn in range(turns) for i in range(D)
    ]
    order = []
    for device in range(D):
        forward = [Work(FORWARD, turn * D + device, m) for turn, m in visits]
        backward = [
            Work(BACKWARD, (turns - 1 - turn) * D + device, m)
            for turn, m in visits
        ]
        ahead = D - 1 - device
        if turns > 1:
            ahead = 2 * ahead + (turns - 1) * D
        work = forward[:ahead]
        for i, of_backward in enumerate(backward):
            work += forward[ahead + i:ahead + i + 1]
            work.append(of_backward)
        order.append(work)
    return order
