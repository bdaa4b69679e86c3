"""Colours: one for each module, the same in all pictures."""

import itertools
import re

# Okabe and Ito's colours, distinguishable with any colour vision.
_OTHERS = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
]


def module_colours(num_modules):
    """Returns a colour for each module, from dark to light.

    They are those of viridis, which can be told apart with any colour vision,
    and in print.

    Args:
        num_modules: int, K.

    Returns:
        List of K str, hexadecimal.
    """
    from matplotlib import colormaps, colors  # Not needed for training.

    # The last tenth of the map is too light on white paper.
    return [
        colors.to_hex(colormaps["viridis"](0.9 * k / max(1, num_modules - 1)))
        for k in range(num_modules)
    ]


def log_colours(names):
    """Returns a colour for each log: that of its module, if it has one.

    Args:
        names: list of str, such as `"sigma/module_2"` and `"loss"`.

    Returns:
        List of str, hexadecimal.
    """
    found = [re.search(r"/module_(\d+)$", name) for name in names]
    numbers = [int(of_module[1]) if of_module else 0 for of_module in found]
    of_modules = module_colours(max(numbers, default=0))
    others = itertools.cycle(_OTHERS)
    return [
        of_modules[number - 1] if number else next(others)
        for number in numbers
    ]
