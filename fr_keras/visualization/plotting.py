"""Plotting: a picture of the modules of a split network."""

import collections
import dataclasses
import os
import textwrap
from collections.abc import Mapping
from typing import Any

from fr_keras.engine.placement import short_name
from fr_keras.visualization.description import Description
from fr_keras.visualization.palette import module_colours
from fr_keras.visualization.summary import shape_text, size_text

# Inches, but for the resolution.
_BOX_WIDTH = 0.9
_TEXT_WIDTH = 5.0
_LINE = 0.17
_SMALL_LINE = 0.13
_SMALL_CHARACTER = 0.055
_MARGIN = 0.15
_DPI = 150

_CHARACTERS = 70  # In a line of text beside a box.
_MOST_LABELS = 4  # On one arrow; more are summed up.
_GREY = "#555555"


def plot_modules(
    modules: Any, to_file: str | os.PathLike[str] = "modules.png",
    costs: Mapping[str, Any] | None = None,
):
    """Draws the modules of a split network.

    There is one box for each module, from the input down, with a height
    proportional to its share of the cost of a training iteration; beside it are
    its device, parameters and number of layers of each kind. Arrows show the
    tensors that cross, with the shape of an example, dtype and size per example
    (kB are 10^3 bytes, MB 10^6); tensors that skip modules are drawn around
    them. The colours (those of viridis) can be distinguished with any colour
    vision, and in print.

    Args:
        modules: list of `keras.Model`s or layers, as returned by
            `fr_keras.partition`, or a model made of modules, such as
            `fr_keras.FeaturesReplay`.
        to_file: str or path of the picture. Its extension sets the format:
            `.png`, or `.pdf` or `.svg` for print.
        costs: dict from layer name to cost, as for `fr_keras.partition`, or
            `None` for those of the model, or else an estimate.

    Raises:
        ValueError: if `modules` is neither, or `costs` lacks a layer.

    Example:

    ```python
    model = keras.applications.InceptionV3(weights=None)
    fr_keras.plot_modules(fr_keras.partition(model, num_modules=4))
    ```
    """
    # Slow to import, and needed for pictures only.
    from matplotlib.figure import Figure

    picture = _Picture(Description(modules, costs))
    figure = Figure(figsize=(picture.width, picture.height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, picture.width)
    axes.set_ylim(picture.height, 0)
    picture.draw(axes)
    # Long names of layers may exceed the width: "tight" makes room.
    figure.savefig(
        to_file, dpi=_DPI, facecolor="white", bbox_inches="tight", pad_inches=0
    )


class _Picture:
    """The layout of the picture, in inches from the upper left corner.

    Args:
        description: `Description` of the modules.

    Attributes:
        width: float.
        height: float.
    """

    def __init__(self, description):
        self._modules = description.modules
        self._shares = description.shares
        self._arrows, self._bypasses = _routes(description)
        self._texts = [
            _module_text(k, module, share)
            for k, (module, share) in enumerate(
                zip(self._modules, self._shares or [None] * self._num_modules),
                start=1,
            )
        ]
        num_lanes = _assign_lanes(self._bypasses)
        num_lines = max((len(b.labels) for b in self._bypasses), default=0)
        self._lane = 0.1 + _SMALL_LINE * max(2, num_lines)
        self._left = _MARGIN + self._lane * num_lanes + 0.1
        self._stack()
        self.width = self._left + _BOX_WIDTH + _TEXT_WIDTH + _MARGIN

    @property
    def _num_modules(self):
        return len(self._modules)

    def _stack(self):
        """Stacks input, modules and output, with room for their texts."""
        self._spans = []  # (top, bottom) of 0 … K + 1.
        y = _MARGIN
        for k in range(self._num_modules + 2):
            height, room = self._heights(k)
            middle = y + room / 2
            self._spans.append((middle - height / 2, middle + height / 2))
            y += room + self._gap(k)
        self.height = y - self._gap(self._num_modules + 1) + _MARGIN

    def _heights(self, k):
        """Height of a box, and of the box with the text beside it."""
        if not 1 <= k <= self._num_modules:
            return 1.6 * _LINE, 1.6 * _LINE
        share = self._shares[k - 1] if self._shares else 1 / self._num_modules
        height = (0.6 * self._num_modules + 1.2) * share
        return height, max(height, _LINE * len(self._texts[k - 1]))

    def _gap(self, k):
        """Space below a box: an arrow and its labels."""
        num_labels = len(_labels(self._arrows.get(k, [])))
        return _LINE * max(2.2, 1.0 + num_labels)

    def draw(self, axes):
        colours = module_colours(self._num_modules)
        for k, text in enumerate(("input", "output")):
            self._draw_box(axes, k * (self._num_modules + 1), "#dddddd", text)
        for k in range(1, self._num_modules + 1):
            self._draw_box(axes, k, colours[k - 1], str(k))
            self._draw_text(axes, k)
        for k, crossings in self._arrows.items():
            self._draw_arrow(axes, k, crossings)
        for bypass in self._bypasses:
            self._draw_bypass(axes, bypass)

    def _draw_box(self, axes, k, colour, text):
        from matplotlib.patches import Rectangle

        top, bottom = self._spans[k]
        axes.add_patch(
            Rectangle(
                (self._left, top), _BOX_WIDTH, bottom - top,
                facecolor=colour, edgecolor="none",
            )
        )
        size = min(15 if text.isdigit() else 9, 60 * (bottom - top))
        if size < 6:
            return  # The text beside the box has the number too.
        axes.text(
            self._left + _BOX_WIDTH / 2, (top + bottom) / 2, text,
            ha="center", va="center_baseline", size=size,
            color="white" if _is_dark(colour) else "black",
        )

    def _draw_text(self, axes, k):
        lines = self._texts[k - 1]
        y = sum(self._spans[k]) / 2 - _LINE * (len(lines) - 1) / 2
        for i, line in enumerate(lines):
            axes.text(
                self._left + _BOX_WIDTH + 0.15, y + i * _LINE, line,
                va="center_baseline", size=8.5 if i else 9,
                weight="normal" if i else "bold",
                color=_GREY if i == 1 else "black",
            )

    def _draw_arrow(self, axes, k, crossings):
        """Draws the tensors that go from one module to the next."""
        x = self._left + _BOX_WIDTH / 2
        start, stop = self._spans[k][1], self._spans[k + 1][0]
        _draw_line(axes, [(x, start), (x, stop)])
        # A text may be taller than its box: the labels are between the texts.
        labels = _labels(crossings)
        y = sum(self._spans[k]) / 2 + self._heights(k)[1] / 2
        y += (self._gap(k) - _LINE * (len(labels) - 1)) / 2
        for i, label in enumerate(labels):
            axes.text(
                x + 0.15, y + i * _LINE, label, va="center_baseline", size=8,
                color=_GREY,
            )

    def _draw_bypass(self, axes, bypass):
        """Draws tensors around modules: from a side, down a lane, to sides."""
        x = self._left - 0.1 - self._lane * (bypass.lane + 0.5)
        start = self._side(bypass.maker, bypass, leaving=True)
        for user in bypass.users:
            stop = self._side(user, bypass, leaving=False)
            _draw_line(
                axes,
                [(self._left, start), (x, start), (x, stop),
                 (self._left, stop)],
            )
        # Where no user's arrow branches off.
        first_stop = self._side(bypass.users[0], bypass, leaving=False)
        room = (first_stop - start) / _SMALL_CHARACTER
        text = "\n".join(
            label if len(label) < room else label.replace(", ", ",\n")
            for label in bypass.labels
        )
        axes.text(
            x, (start + first_stop) / 2, text, rotation=90, size=7,
            ha="center", va="center", color=_GREY,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )

    def _side(self, k, bypass, leaving):
        """Where a bypass touches the left side of box k.

        Arriving arrows are above leaving ones. Of either, those with inner
        lanes are nearer to the end of the box, so that lines do not cross.
        """
        there = [
            other for other in self._bypasses
            if (other.maker == k if leaving else k in other.users)
        ]
        there.sort(key=lambda other: other.lane)
        fraction = (1 + there.index(bypass)) / (len(there) + 1) / 2
        top, bottom = self._spans[k]
        height = bottom - top
        return bottom - fraction * height if leaving else (
            top + fraction * height
        )


@dataclasses.dataclass(eq=False)
class _Bypass:
    """Tensors that go from one module around others.

    Attributes:
        maker: int, number of the module, as in `Crossing`.
        users: tuple of ints, increasing, all beyond the next module.
        crossings: list of `Crossing`s.
        lane: int, from the boxes outwards.
    """

    maker: int
    users: tuple
    crossings: list
    lane: int = 0

    @property
    def labels(self):
        return _labels(self.crossings)


def _routes(description):
    """Separates tensors for the next module from those that go around it.

    Args:
        description: `Description`.

    Returns:
        Tuple `(arrows, bypasses)`: a dict from a boundary's number to the
        `Crossing`s that go straight across it, and a list of `_Bypass`es.
    """
    arrows, around = {}, collections.defaultdict(list)
    for k, crossings in enumerate(description.boundaries):
        if crossings is None:
            arrows[k] = []
            continue
        made = [crossing for crossing in crossings if crossing.maker == k]
        straight = [crossing for crossing in made if k + 1 in crossing.users]
        if straight:
            arrows[k] = straight
        for crossing in made:
            users = tuple(user for user in crossing.users if user > k + 1)
            if users:
                around[k, users].append(crossing)
    return arrows, [_Bypass(*key, of_one) for key, of_one in around.items()]


def _assign_lanes(bypasses):
    """Gives short bypasses the inner lanes; returns the number of lanes."""
    taken = []  # The bypasses of each lane.
    for bypass in sorted(bypasses, key=lambda b: b.users[-1] - b.maker):
        lane = 0
        while lane < len(taken) and any(
            bypass.maker < other.users[-1] and other.maker < bypass.users[-1]
            for other in taken[lane]
        ):
            lane += 1
        taken[lane:] = taken[lane:] or [[]]
        taken[lane].append(bypass)
        bypass.lane = lane
    return len(taken)


def _module_text(k, module, share):
    """Lines of text on a module: title, facts, and its kinds of layers."""
    title = [f"Module {k}"]
    if module.device:
        title.append(short_name(module.device))
    title.append(
        "cost unknown" if share is None else f"{share:.1%} of the cost"
    )
    known = module.num_parameters is not None
    facts = f"{module.num_parameters:,} parameters, " if known else ""
    names = [layer.name for layer in module.layers]
    ends = [*dict.fromkeys([*names[:1], *names[-1:]])]
    room = _CHARACTERS - len(facts) - 3 * (len(ends) - 1)
    facts += " … ".join(_shortened(name, room // len(ends)) for name in ends)
    return [
        " · ".join(title),
        facts,
        *textwrap.wrap(_kinds_text(module.layers), _CHARACTERS),
    ]


def _shortened(name, room):
    """A name without its middle if it is too long; its end tells most."""
    if len(name) <= room:
        return name
    head = room // 3
    return f"{name[:head]}…{name[head + 1 - room:]}"


def _kinds_text(layers):
    """Counts layers by kind, such as `Conv2D ×12, ReLU ×12, Dense`."""
    kinds = collections.Counter(type(layer).__name__ for layer in layers)
    # A count stays with its kind where lines are wrapped.
    return ", ".join(
        kind if count == 1 else f"{kind}\N{NO-BREAK SPACE}×{count}"
        for kind, count in kinds.items()
    )


def _labels(crossings):
    """Lines of text on crossing tensors, summed up if there are many."""
    if len(crossings) > _MOST_LABELS:
        total = sum(crossing.num_bytes for crossing in crossings)
        return [f"{len(crossings)} tensors, {size_text(total)}"]
    return [
        f"{shape_text(crossing, times='×')}, "
        f"{size_text(crossing.num_bytes)}"
        for crossing in crossings
    ]


def _is_dark(colour):
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def _draw_line(axes, points):
    """Draws a line through points that ends in an arrow head."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    axes.add_patch(
        FancyArrowPatch(
            path=Path(points), arrowstyle="-|>", mutation_scale=9,
            color=_GREY, linewidth=1.1, joinstyle="round",
        )
    )
