"""Summary: a table of the modules of a split network."""

from collections.abc import Callable, Mapping
from typing import Any

from fr_keras.engine.placement import short_name
from fr_keras.visualization.description import Description

_UNKNOWN = "?"
_UNITS = ("B", "kB", "MB", "GB")
_GAP = "  "
_HEADER = (
    "module", "device", "layers", "parameters", "trainable", "cost",
    "inputs kept",
)


def summary(
    modules: Any, costs: Mapping[str, Any] | None = None,
    print_fn: Callable[[str], object] = print, line_length: int = 100,
) -> None:
    """Prints a table of the modules of a split network.

    Each module has a row with its number, device, layers, parameters, share of
    the cost of a training iteration, and the inputs that it keeps for replay,
    with their size in megabytes (10^6 bytes) per example; below it are the
    names of the first and the last layer in order of execution. Between modules
    are the tensors that cross, with the shape of an example, dtype and
    megabytes per example (tied weights: per iteration), and the origin and
    destination of those that only pass through a module. Below the table are
    the balance of the modules, the size of the replay queues, and the number of
    all parameters. Unknown values are shown as question marks; a module of a
    custom class is known once it has been called.

    Costs are those balanced by `fr_keras.partition`: an iteration of Features
    Replay costs module k < K two forward passes and a backward pass, 4 forward
    units, and module K 3. Unknown dimensions, shown as `?`, count as 1.

    Args:
        modules: list of `keras.Model`s or layers, as returned by
            `fr_keras.partition`, or a model made of modules, such as
            `fr_keras.FeaturesReplay`.
        costs: dict from layer name to cost, as for `fr_keras.partition`, or
            `None` for those of the model, or else an estimate.
        print_fn: callable, called with each line of the summary.
        line_length: int, characters per line of the table; longer lines are
            shortened.

    Raises:
        ValueError: if `modules` is neither, or `costs` lacks a layer.

    Example:

    ```python
    model = keras.applications.ResNet50(weights=None)
    fr_keras.summary(fr_keras.partition(model, num_modules=4))
    ```
    """
    description = Description(modules, costs)
    for line in [*_table(description, line_length), *_footer(description)]:
        print_fn(line)


def shape_text(crossing, times="x"):
    """Formats the shape and dtype of a tensor, such as `32x32x16 float32`.

    Args:
        crossing: `fr_keras.visualization.description.Crossing`.
        times: str, between the dimensions.

    Returns:
        str.
    """
    dimensions = [_UNKNOWN if d is None else str(d) for d in crossing.shape]
    return f"{times.join(dimensions) or 'scalar'} {crossing.dtype}"


def size_text(num_bytes):
    """Formats a size to three digits, such as `16 B`, `65.5 kB` or `1.05 MB`.

    Args:
        num_bytes: int.

    Returns:
        str.
    """
    # Rounded first, so that 999,900 bytes are 1 MB and not 1000 kB.
    rounded = float(f"{num_bytes:.3g}")
    power = 0
    while rounded >= 1000 ** (power + 1) and power < len(_UNITS) - 1:
        power += 1
    return f"{rounded / 1000 ** power:.4g} {_UNITS[power]}"


def _table(description, line_length):
    """Lines on the modules and, between them, the tensors that cross."""
    header, *rows = _aligned(_rows(description))
    num_modules = len(rows)
    heads = ["input", *["->"] * (num_modules - 1), "output"]
    indent = " " * len(_HEADER[0] + _GAP)
    lines = []
    for k, (head, crossings) in enumerate(zip(heads, description.boundaries)):
        lines += [
            indent + line
            for line in _crossing_lines(head, crossings, k, num_modules)
        ]
        if k < num_modules:
            layers = _range_text(description.modules[k].layers)
            lines += [rows[k], indent + layers]
    rule = "-" * min(line_length, max(map(len, [header, *lines])))
    lines = [header, rule, *lines, rule]
    return [_shortened(line, line_length) for line in lines]


def _rows(description):
    """Cells of the table, without empty columns."""
    shares = description.shares or [None] * len(description.modules)
    rows = [_HEADER] + [
        (
            str(k),
            short_name(module.device) if module.device else "",
            str(len(module.layers)),
            _number(module.num_parameters),
            _number(module.num_trainable),
            _UNKNOWN if share is None else f"{share:.1%}",
            _kept_text(module),
        )
        for k, (module, share) in enumerate(zip(description.modules, shares), 1)
    ]
    columns = [column for column in zip(*rows) if any(column[1:])]
    return list(zip(*columns))


def _aligned(rows):
    """Lines with aligned columns."""
    columns = []
    for column in zip(*rows):
        width = max(map(len, column))
        align = str.ljust if column[0] == "device" else str.rjust
        columns.append([align(cell, width) for cell in column])
    return [_GAP.join(row).rstrip() for row in zip(*columns)]


def _number(number):
    return _UNKNOWN if number is None else f"{number:,}"


def _kept_text(module):
    """Size of the kept inputs, such as `4 x 12.3 kB`; empty without any."""
    if not module.copies:
        return ""
    if module.kept is None:
        return f"{module.copies} x {_UNKNOWN}"
    return f"{module.copies} x {size_text(module.kept_bytes)}"


def _range_text(layers):
    names = [layer.name for layer in layers]
    return " ... ".join(dict.fromkeys([names[0], names[-1]])) if names else ""


def _crossing_lines(head, crossings, k, num_modules):
    """Lines on the tensors that cross from module k to k + 1."""
    if crossings is None:
        return [f"{head} {_UNKNOWN}"]
    lines = [
        f"{shape_text(tensor)}, {size_text(tensor.num_bytes)}"
        + (" of weights per iteration" if tensor.is_weight else "")
        + _route_text(tensor, k, num_modules)
        for tensor in crossings
    ]
    if len(lines) > 1:
        total = sum(
            tensor.num_bytes for tensor in crossings if not tensor.is_weight
        )
        lines.insert(0, f"{len(lines)} tensors, {size_text(total)}")
    return [f"{head} {lines[0]}"] + [
        " " * len(head) + f" {line}" for line in lines[1:]
    ]


def _route_text(tensor, k, num_modules):
    """Origin and destination of a tensor that passes through a module."""
    if tensor.maker == k and tensor.users in ([], [k + 1]):
        return ""
    start = tensor.maker or "the input"
    stops = [
        "the output" if user > num_modules else str(user)
        for user in tensor.users
    ]
    return f", from {start} to {' and '.join(stops) or _UNKNOWN}"


def _shortened(line, length):
    return line if len(line) <= length else line[: length - 3] + "..."


def _footer(description):
    """Lines on the balance, the replay queues and all parameters."""
    lines = _balance_lines(description)
    if description.replays:
        sizes = [
            module.kept_bytes and module.copies * module.kept_bytes
            for module in description.modules
        ]
        total = _UNKNOWN if None in sizes else size_text(sum(sizes))
        lines.append(
            f"Replay queues: {total} per example. Module k keeps K-k+1 inputs, "
            "without passthrough tensors."
        )
        of_weights = sum(
            module.copies * module.kept_weight_bytes
            for module in description.modules
        )
        if of_weights:
            lines.append(
                "Tied weights in replay queues: "
                f"{size_text(of_weights)}, for any batch size."
            )
    numbers = [
        (module.num_parameters, module.num_trainable)
        for module in description.modules
    ]
    if (None, None) in numbers:
        lines.append(f"Parameters: {_UNKNOWN}")
    else:
        total, trainable = map(sum, zip(*numbers))
        lines.append(f"Parameters: {total:,}, of which {trainable:,} trainable")
    for number, devices in enumerate(description.copies, start=2):
        lines.append(
            f"Copy {number} of all modules: "
            f"{', '.join(map(short_name, devices))}"
        )
    return lines


def _balance_lines(description):
    if description.shares is None:
        unknown = [
            str(k) for k, module in enumerate(description.modules, 1)
            if module.cost is None
        ]
        where = f" of module {' and '.join(unknown)}" if unknown else ""
        return [f"Balance: {_UNKNOWN}, since the cost{where} is unknown"]
    lines = [
        f"Balance: module {description.slowest} is slowest and takes "
        f"{description.imbalance:.2f} times as long as in perfect balance"
    ]
    if description.replays:
        found, perfect = description.speedups
        lines.append(
            f"Speed-up over back-propagation: at most {found:.2f} "
            f"(in perfect balance on K devices: {perfect:.2f})"
        )
    return lines
