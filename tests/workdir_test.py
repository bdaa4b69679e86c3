"""Working directories: taken by one process, and never led elsewhere."""

import errno
import fcntl
import os

import pytest

from trainers.command import errors, workdir
from trainers.workers import local_workers


def test_one_process_at_a_time(tmp_path):
    with workdir.taken(str(tmp_path / "run")):
        with pytest.raises(errors.UsageError, match="in use by another"):
            with workdir.taken(str(tmp_path / "run")):
                pass
    with workdir.taken(str(tmp_path / "run")) as goes_on:
        assert not goes_on


def test_who_comes_second_leaves_the_lock_alone(tmp_path):
    """However many come, and although the first has not written anything."""
    with workdir.taken(str(tmp_path / "run")):
        for _ in range(3):
            with pytest.raises(errors.UsageError, match="in use by another"):
                with workdir.taken(str(tmp_path / "run")):
                    pass
        assert (tmp_path / "run" / ".lock").exists()


def test_a_lock_that_was_just_removed(tmp_path, monkeypatch):
    """Between opening and locking: the lock of a file that is gone is none."""
    removed = []
    flock = fcntl.flock

    def late(descriptor, operation):
        if not removed:
            removed.append(os.remove(tmp_path / "run" / ".lock"))
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with workdir.taken(str(tmp_path / "run")):
        assert (tmp_path / "run" / ".lock").exists()
        with pytest.raises(errors.UsageError, match="in use by another"):
            with workdir.taken(str(tmp_path / "run")):
                pass


def test_without_locks_it_is_said(tmp_path, monkeypatch, capsys):
    """As NFS has it of what is not open for writing."""
    def flock(descriptor, operation):
        assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_RDWR
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", flock)
    with workdir.taken(str(tmp_path / "run")):
        pass
    said = capsys.readouterr().err
    assert "cannot be locked" in said and "Bad file descriptor" in said


@pytest.mark.parametrize("name", [
    "part_of_history.csv", "flags.cfg", "checkpoints", ".lock",
    "tensorboard/train/events.out.tfevents.1.host.1.0.v2",
])
def test_links_are_refused(name, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(precious)
    for take in (workdir.make, lambda path: workdir.taken(path).__enter__()):
        with pytest.raises(errors.UsageError, match="symbolic.*Received.*->"):
            take(str(tmp_path / "run"))
    assert precious.read_text() == "as it was"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    """One that has come since."""
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    for name in ("part_of_table.md", "table.md"):
        (tmp_path / name).symlink_to(precious)
    with workdir.replaced(str(tmp_path / "table.md")) as part:
        with open(part, "w") as file:
            file.write("new")
    assert precious.read_text() == "as it was"
    assert (tmp_path / "table.md").read_text() == "new"
    assert not (tmp_path / "table.md").is_symlink()


def test_nothing_is_left_in_a_directory_of_something_else(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(errors.UsageError, match="new, empty or"):
        with workdir.taken(str(tmp_path)):
            pass
    assert os.listdir(tmp_path) == ["thesis.txt"]


class Mortal(local_workers.Worker):
    """A worker whose processes die at once."""

    starts = 0

    def _start(self):
        type(self).starts += 1
        self._port = 1
        self.process = Dead()


class Dead:
    pid = 7

    def wait(self):
        return 1

    def kill(self):
        pass


def test_a_worker_that_dies_at_once_is_given_up(monkeypatch, capsys):
    """After pauses that grow; it is said how often."""
    pauses = []
    monkeypatch.setattr(
        local_workers.threading.Event, "wait",
        lambda event, seconds=None: pauses.append(seconds),
    )
    monkeypatch.setattr(local_workers.threading.Thread, "start", lambda t: None)
    worker = Mortal(0)
    worker._start_again()
    assert Mortal.starts == 7 and pauses == [0, 1, 2, 4, 8, 16]
    said = capsys.readouterr().err
    assert said.count("is restarted") == 6
    assert (
        "has died 7 times, each soon after its start; it is not restarted"
    ) in said
    worker.stop()
    worker._start_again()
    assert Mortal.starts == 7
