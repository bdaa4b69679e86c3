"""Flags of a cluster: each mistake is told in one line."""

import pytest
from absl import flags

from tests.command_line import command, complaint
from trainers.workers import connecting

MISTAKES = [
    ("train", "--workers=nonsense", "Received: 'nonsense'"),
    ("train", "--workers=host:0", "Received: 'host:0'"),
    ("train", "--workers=host:70000", "Received: 'host:70000'"),
    ("train", "--workers=host:1,host:1", "none twice"),
    ("train", "--workers=host:1,", "Received: ''"),
    ("train", "--workers=host:1 --cluster=slurm", "cannot be combined"),
    ("train", "--cluster=", "cluster"),
    ("train", "--cluster=magic", "tf_config|slurm|kubernetes"),
    ("train", "--cluster=tf_config", "must name a job 'worker'"),
    ("train", "--cluster=slurm", "workers cannot be determined"),
    ("train", "--cluster=kubernetes", "workers cannot be determined"),
    ("train", "--worker_port=0", "worker_port"),
    ("train", "--worker_port=70000", "worker_port"),
    ("train", "--kubernetes_selector=", "must name labels"),
    ("train", "--workers=host:1 --coordinator=here", "Received: 'here'"),
    ("train", "--coordinator_interface=", "must name an interface"),
    ("train", "--wait_for_workers=0", "must be positive"),
    ("train", "--wait_for_workers=nan", "must be positive"),
    ("train", "--worker_patience=-1", "must be positive"),
    ("train", "--worker_patience=inf", "must be positive"),
    ("train", "--recoveries=-1", "recoveries"),
    ("train", "--on_lost_worker=panic", "on_lost_worker"),
    ("worker", "", "Received: neither"),
    ("worker", "--port=-1", "port"),
    ("worker", "--port=70000", "port"),
    ("worker", "--port=x", "port"),
    ("worker", "--port=0 --interface=", "must name an interface"),
    ("worker", "--port=0 --allow_root --interface=nosuch0", "'nosuch0'"),
    ("worker", "--port=0 --allow_root=perhaps", "allow_root"),
    ("worker", "--port=0 --cores=x", "must be numbers"),
    ("worker", "--port=0 --cores=99999", "cannot run on them"),
    ("worker", "--port=0 --deterministic=perhaps", "deterministic"),
    ("worker", "--cluster=tf_config", "--cluster=tf_config"),
    ("local_cluster", "--num_workers=0", "num_workers"),
    ("local_cluster", "--num_workers=two", "num_workers"),
    ("local_cluster", "--deterministic=perhaps", "deterministic"),
    ("local_cluster", "--private_network=perhaps", "private_network"),
    ("local_cluster", "--allow_root=perhaps", "allow_root"),
]


@pytest.mark.parametrize("program, given, expected", MISTAKES)
@pytest.mark.quick_cases(
    "train---workers=nonsense", "train---workers=host:1,host:1",
    "train---cluster=tf_config", "train---worker_patience=inf",
    "worker---port=x", "worker---cluster", "worker---port=0 --cores=x",
    "local_cluster---num_workers=two", "worker--Received",
)
def test_mistake_gets_one_line(program, given, expected, tmp_path):
    flags_given = given.split()
    if program == "train":
        flags_given += [
            "--flagfile=configs/digits_fr.cfg", f"--workdir={tmp_path / 'run'}"
        ]
    said = complaint(command(f"trainers.{program}", *flags_given))
    assert said.startswith(f"{program}.py: ")
    assert expected in said
    assert not list(tmp_path.glob("run/*"))


def test_devices_that_are_named_cannot_be_others(tmp_path):
    said = complaint(command(
        "trainers.train", f"--workdir={tmp_path / 'run'}", "--devices=CPU:0",
        "--on_lost_worker=shrink",
    ))
    assert "--on_lost_worker=shrink chooses the devices itself" in said


def test_every_flag_of_a_cluster_is_tried():
    tried = {
        flag.lstrip("-").split("=")[0]
        for program, given, _ in MISTAKES if program == "train"
        for flag in given.split()
    }
    names = {
        flag.name
        for flag in flags.FLAGS.flags_by_module_dict()[connecting.__name__]
    }
    assert tried == names
