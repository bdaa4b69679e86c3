"""Event files rotate, and a full disk does not end a run."""

import resource

import pytest
import tensorflow as tf

from trainers.results.event_files import EventFiles


def write(writer, steps):
    with writer.as_default():
        for step in steps:
            tf.summary.scalar("value", step, step)


def read(folder):
    """The steps in all files, in their order."""
    return [
        event.step
        for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_ctime_ns)
        for event in tf.compat.v1.train.summary_iterator(str(path))
        if event.HasField("summary")
    ]


@pytest.fixture
def full_disk():
    """Lets files grow to a certain size only, when it is called."""

    def limit(size):
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY)
        )

    yield limit
    limit(resource.RLIM_INFINITY)


def test_files_rotate(tmp_path):
    writer = EventFiles(str(tmp_path / "logs"), max_bytes=2000)
    for step in range(100):
        write(writer, [step])
        if step % 10 == 9:
            writer.flush()
    writer.close()
    files = list((tmp_path / "logs").iterdir())
    assert 3 <= len(files) <= 10
    assert all(path.stat().st_size < 4000 for path in files)
    assert read(tmp_path / "logs") == [*range(100)]


def test_nothing_is_made_before_something_is_written(tmp_path):
    writer = EventFiles(str(tmp_path / "logs"))
    writer.flush()
    writer.close()
    assert not (tmp_path / "logs").exists()


def test_full_disk(tmp_path, full_disk, caplog):
    writer = EventFiles(str(tmp_path / "logs"))
    write(writer, range(10))
    writer.flush()
    full_disk(1500)
    for begin in (10, 40, 70):
        write(writer, range(begin, begin + 30))
        # Those of others would go to a writer that is closed.
        assert not tf.summary.should_record_summaries()
        writer.flush()
    full_disk(resource.RLIM_INFINITY)
    for begin in (100, 110):
        write(writer, range(begin, begin + 10))
        writer.flush()
    writer.close()
    steps = read(tmp_path / "logs")  # All files can be read to their end.
    assert steps == sorted(steps)
    assert steps[:10] == [*range(10)] and steps[-20:] == [*range(100, 120)]
    assert caplog.text.count("cannot be written to") == 1
    assert caplog.text.count("can be written again") == 1


def test_directory_that_cannot_be_made(tmp_path, caplog):
    (tmp_path / "logs").write_text("in the way")
    writer = EventFiles(str(tmp_path / "logs"))
    write(writer, range(3))
    writer.flush()
    (tmp_path / "logs").unlink()
    write(writer, range(3, 6))
    writer.close()
    assert read(tmp_path / "logs") == [3, 4, 5]
    assert caplog.text.count("cannot be written to") == 1
