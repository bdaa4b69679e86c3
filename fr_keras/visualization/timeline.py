"""Timeline: a picture of when each module works."""

# (Okabe and Ito's colours, which can be distinguished with any colour vision
# and, by their order from light to dark, in print.)
_COLOURS = {
    "play": "#56B4E9",
    "replay": "#F0E442",
    "backward": "#0072B2",
    "weights": "#CC79A7",
    "learn": "#009E73",
    "update": "#D55E00",
}
# Inches, but for the resolution.
_WIDTH = 9.0
_LANE = 0.38
_FRAME = 1.1
_DPI = 150


def plot_timeline(events, to_file="timeline.png", title="", unit=1e-3,
                  unit_name="ms", num_modules=None):
    """Draws when modules work: a lane for each module, a box for each event.

    Args:
        events: list of `simulation.Event`, measured or simulated.
        to_file: str or path of the picture. Its extension sets the format:
            `.png`, or `.pdf` or `.svg` for print.
        title: str.
        unit: float, seconds in a unit of the time axis.
        unit_name: str.
        num_modules: int, K, if there are copies of modules: event.module is
            then i K + k for copy i of module k. `None` if there are not.

    Raises:
        ValueError: if there are no events.
        ImportError: if matplotlib is not installed.

    Example:

    ```python
    modules = [ModuleTimes(forward=0.02, backward=0.04)] * 4
    events = simulation.simulate("features_replay", modules, num_steps=6)
    plot_timeline(events, "features_replay.png")
    ```
    """
    if not events:
        raise ValueError("`events` must not be empty. Received: events=[]")
    from matplotlib import figure  # Not needed for training.

    num_lanes = 1 + max(event.module for event in events)
    num_modules = num_modules or num_lanes
    begin = min(event.start for event in events)
    picture = figure.Figure(
        figsize=(_WIDTH, _FRAME + _LANE * num_lanes), layout="constrained"
    )
    axes = picture.subplots()
    for kind, colour in _COLOURS.items():
        of_kind = [event for event in events if event.kind == kind]
        if not of_kind:
            continue
        axes.barh(
            [event.module + 1 for event in of_kind],
            [(event.stop - event.start) / unit for event in of_kind],
            left=[(event.start - begin) / unit for event in of_kind],
            height=0.8, color=colour, edgecolor="black", linewidth=0.4,
            label=kind,
        )
    axes.set_yticks(
        range(1, num_lanes + 1),
        [
            f"module {lane % num_modules + 1}" + (
                f", copy {lane // num_modules + 1}"
                if num_lanes > num_modules else ""
            )
            for lane in range(num_lanes)
        ],
    )
    axes.invert_yaxis()
    axes.margins(x=0.01)
    axes.set_xlabel(f"time ({unit_name})")
    axes.set_title(title, loc="left")
    picture.legend(
        loc="outside upper right", ncols=len(_COLOURS), frameon=False
    )
    picture.savefig(to_file, dpi=_DPI)
