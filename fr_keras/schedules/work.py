"""Work on micro-batches, and orders of it.

An order is a list with a list of `Work` for each module, or for each device if
modules take turns there, in which the device does it. K and M are the numbers
of modules and micro-batches, k and m one of them, from 0.
"""

import typing

FORWARD, BACKWARD, WEIGHTS = KINDS = "forward", "backward", "weights"


class Work(typing.NamedTuple):
    """A module's work on one micro-batch.

    Attributes:
        kind: str, one of `KINDS`: the forward pass; the backward pass, or, in
            an order with `"weights"`, only the gradient with respect to the
            module's input; and the gradient with respect to its weights.
        module: int, k.
        microbatch: int, m.
    """

    kind: str
    module: int
    microbatch: int


def needed(work, num_modules):
    """Returns what must be done before, apart from the device's own order.

    Args:
        work: `Work`.
        num_modules: int, K.

    Returns:
        List of `Work`.
    """
    kind, k, m = work
    if kind == FORWARD:
        return [Work(FORWARD, k - 1, m)] if k else []
    if kind == WEIGHTS:
        return [Work(BACKWARD, k, m)]
    if k == num_modules - 1:
        return [Work(FORWARD, k, m)]
    return [Work(BACKWARD, k + 1, m)]


def in_sequence(order):
    """Puts the work of all modules in one sequence.

    Args:
        order: list of lists of `Work`.

    Returns:
        List of `Work`, each after all that it needs.

    Raises:
        ValueError: if modules would wait for each other forever.
    """
    num_modules = 1 + max(work.module for of_one in order for work in of_one)
    waiting = [list(reversed(of_one)) for of_one in order]
    done, sequence = set(), []
    while any(waiting):
        begun = len(sequence)
        for of_one in waiting:
            while of_one and done.issuperset(needed(of_one[-1], num_modules)):
                sequence.append(of_one.pop())
                done.add(sequence[-1])
        if len(sequence) == begun:
            raise ValueError(
                "An order must not make modules wait for each other forever. "
                f"Received: after {sequence}, modules wait to do "
                f"{[of_one[-1] for of_one in waiting if of_one]}"
            )
    return sequence


def in_flight(order, sizes=None):
    """Returns how much is kept for backward passes, at most.

    Args:
        order: list of lists of `Work`.
        sizes: list of K numbers, what a micro-batch in each module takes, or
            `None` to count micro-batches.

    Returns:
        List of as many numbers as `order` has lists, the most that is kept at a
        time between the forward pass of a module and the last work on the same
        micro-batch.
    """
    found = []
    for of_one in order:
        last = {work[1:]: i for i, work in enumerate(of_one)}
        kept = most = 0
        for i, work in enumerate(of_one):
            size = 1 if sizes is None else sizes[work.module]
            kept += size * (work.kind == FORWARD)
            most = max(most, kept)
            kept -= size * (last[work[1:]] == i)
        found.append(most)
    return found
