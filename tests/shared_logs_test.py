"""Several trainings that log to the same directory."""

import os
import socket
import time

import keras
import pytest

import fr_keras
from fr_keras.callbacks.checkpoints.writers import Writers
from tests import small_net


def fit(tmp_path, epochs):
    model = small_net.compiled()
    kept = fr_keras.Checkpoints(tmp_path / "checkpoints", monitor=None)
    small_net.fit(model, epochs=epochs, callbacks=[
        kept, keras.callbacks.TensorBoard(tmp_path / "logs"),
    ])
    return kept


def test_files_of_others_stay_as_they_are(tmp_path):
    """Those that were there, those that came later, and links."""
    folder = tmp_path / "logs" / "train"
    folder.mkdir(parents=True)
    now = int(time.time())
    before = folder / f"events.out.tfevents.{now - 9}.{socket.gethostname()}.1"
    before.with_suffix(".1.0.v2").write_bytes(b"before")
    fit(tmp_path, 1)
    own = {path.name for path in folder.iterdir()}
    for path in folder.iterdir():
        if path.name.startswith(before.name):
            path.write_bytes(b"it has grown since")
    host, process = socket.gethostname(), os.getpid()
    others = {
        f"events.out.tfevents.{now + 9}.{host}.{process + 1}.0.v2": b"later",
        f"events.out.tfevents.{now + 9}.other.{process}.0.v2": b"elsewhere",
        f"events.out.tfevents.{now - 9}.{host}.{process}.0.v2": b"earlier",
        "tfevents.txt": b"notes",
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
    (tmp_path / "precious").write_text("elsewhere")
    (folder / f"events.out.tfevents.{now + 9}.{host}.{process}.7.v2"
     ).symlink_to(tmp_path / "precious")
    mine = folder / f"events.out.tfevents.{now + 9}.{host}.{process}.8.v2"
    mine.write_bytes(b"of iterations that are made again")

    assert fit(tmp_path, 2).restored
    assert not mine.exists()
    assert (tmp_path / "precious").read_text() == "elsewhere"
    for name, content in others.items():
        assert (folder / name).read_bytes() == content
    for name in own:
        if name.startswith(before.name):
            assert (folder / name).read_bytes() == b"it has grown since"


@pytest.mark.parametrize("line", [
    "", "{", "[]", "7", '["host", "1", 2]', '["host", 1]', "\x00\xff",
])
def test_torn_lines_are_left_out(line, tmp_path):
    (tmp_path / "processes").write_text(f'{line}\n["host", 7, 100]\n')
    writers = Writers(str(tmp_path))
    assert writers.have_written("events.out.tfevents.100.host.7.0.v2")
    for name in (
        "events.out.tfevents.99.host.7.0.v2", "events.out.tfevents.7.v2",
        "events.out.tfevents.100.host.8.0.v2", "notes",
    ):
        assert not writers.have_written(name)
