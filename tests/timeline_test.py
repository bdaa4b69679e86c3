"""The picture of who works when: what is drawn, where."""

import matplotlib.axes
import pytest

from fr_keras.planning.simulation import Event
from fr_keras.visualization import timeline

EVENTS = [
    Event(0, "play", 1.0, 1.1),
    Event(1, "play", 1.1, 1.2),
    Event(0, "replay", 1.1, 1.25),
    Event(1, "backward", 1.2, 1.5),
    Event(1, "update", 1.5, 1.5),
]


def test_every_event_is_a_box(tmp_path, monkeypatch):
    boxes = []
    barh = matplotlib.axes.Axes.barh

    def spy(axes, lanes, widths, left, label, **kwargs):
        boxes.extend((label, *box) for box in zip(lanes, left, widths))
        return barh(axes, lanes, widths, left=left, label=label, **kwargs)

    monkeypatch.setattr(matplotlib.axes.Axes, "barh", spy)
    timeline.plot_timeline(EVENTS, tmp_path / "timeline.png")
    # Milliseconds since the first event, lanes from 1.
    assert sorted(boxes) == [
        (kind, module, pytest.approx(start), pytest.approx(width))
        for kind, module, start, width in [
            ("backward", 2, 200, 300),
            ("play", 1, 0, 100),
            ("play", 2, 100, 100),
            ("replay", 1, 100, 150),
            ("update", 2, 500, 0),
        ]
    ]
    picture = (tmp_path / "timeline.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match=r"Received: events=\[\]"):
        timeline.plot_timeline([], tmp_path / "timeline.png")
    assert not list(tmp_path.iterdir())
