"""What names the workers of a cluster: TF_CONFIG, Slurm, Kubernetes."""

import json
import sys
import types

import pytest
from absl.testing import flagsaver

from fr_keras.cluster import connection
from trainers.command import errors
from trainers.workers import connecting


@pytest.fixture(autouse=True)
def parsed():
    if not connecting.FLAGS.is_parsed():
        connecting.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver():
        yield


def addresses(**values):
    for name, value in values.items():
        connecting.FLAGS[name].value = value
    return connecting.addresses()


def test_flag():
    assert addresses(workers=["a:1", "b:2"]) == (["a:1", "b:2"], None)


@pytest.mark.parametrize("chief", ["coordinator", "chief"])
def test_tf_config(chief, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({
        "cluster": {chief: ["c:3"], "worker": ["a:1", "b:2"]},
        "task": {"type": chief, "index": 0},
    }))
    assert addresses(cluster="tf_config") == (["a:1", "b:2"], "c:3")


@pytest.mark.parametrize(
    "text", ["", "{", '{"cluster": {}}', '{"cluster": {"ps": ["a:1"]}}']
)
def test_wrong_tf_config(text, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(errors.UsageError, match="^--cluster=tf_config"):
        addresses(cluster="tf_config")


@pytest.mark.parametrize("prefix", ["SLURM_STEP_", "SLURM_"])
def test_slurm(prefix, monkeypatch):
    """In a step, as workers are; and in the batch script, as the run is."""
    for name in ("STEP_NODELIST", "STEP_NUM_TASKS", "STEP_TASKS_PER_NODE"):
        # Set before it is deleted, so that it is deleted afterwards too.
        monkeypatch.setenv(f"SLURM_{name}", "")
        monkeypatch.delenv(f"SLURM_{name}")
    monkeypatch.setenv("SLURM_PROCID", "0")
    of_job = prefix == "SLURM_"
    nodes = "SLURM_JOB_NODELIST" if of_job else "SLURM_STEP_NODELIST"
    tasks = "SLURM_NTASKS" if of_job else "SLURM_STEP_NUM_TASKS"
    monkeypatch.setenv(nodes, "gpu[07-08]")
    monkeypatch.setenv(tasks, "3")
    monkeypatch.setenv(f"{prefix}TASKS_PER_NODE", "2,1")
    assert addresses(cluster="slurm", worker_port=9000) == (
        ["gpu07:9000", "gpu07:9001", "gpu08:9000"], None
    )


def test_outside_of_slurm(monkeypatch):
    for name in ("PROCID", "STEP_NODELIST", "JOB_NODELIST"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    with pytest.raises(errors.UsageError, match="SLURM_PROCID"):
        addresses(cluster="slurm")


def pod(name, address, phase="Running"):
    return types.SimpleNamespace(
        metadata=types.SimpleNamespace(name=name),
        status=types.SimpleNamespace(host_ip=address, phase=phase),
    )


def fake_kubernetes(monkeypatch, pods, asked):
    """The parts of the package `kubernetes` that are used."""

    class Api:
        def list_pod_for_all_namespaces(self, label_selector):
            asked.append(label_selector)
            return types.SimpleNamespace(items=pods)

    class ConfigException(Exception):
        pass

    def outside():
        raise ConfigException

    package = types.ModuleType("kubernetes")
    package.client = types.SimpleNamespace(CoreV1Api=Api)
    package.config = types.SimpleNamespace(
        ConfigException=ConfigException,
        load_incluster_config=outside,
        load_kube_config=lambda: None,
    )
    monkeypatch.setitem(sys.modules, "kubernetes", package)


def test_kubernetes(monkeypatch):
    asked = []
    fake_kubernetes(
        monkeypatch, [pod("w-1", "10.0.0.2"), pod("w-0", "10.0.0.1")], asked
    )
    assert addresses(
        cluster="kubernetes", kubernetes_selector="app=mine", worker_port=9000
    ) == (["10.0.0.1:9000", "10.0.0.2:9000"], None)
    assert asked == ["app=mine"]


@pytest.mark.parametrize(
    "pods, expected",
    [([], "job 'worker'"), ([pod("w-0", "a", "Pending")], "Pending")],
)
def test_kubernetes_without_workers(pods, expected, monkeypatch):
    fake_kubernetes(monkeypatch, pods, [])
    with pytest.raises(errors.UsageError, match=expected):
        addresses(cluster="kubernetes", wait_for_workers=0.1)


def test_kubernetes_waits_for_a_pod(monkeypatch):
    """A run that had two workers does not go on with one of them."""
    pods, asked = [pod("w-0", "10.0.0.1")], []
    fake_kubernetes(monkeypatch, pods, asked)
    monkeypatch.setenv("FR_KERAS_NUM_WORKERS", "2")
    expected = r"the 2 workers that the run started with.*10\.0\.0\.1"
    with pytest.raises(errors.UsageError, match=expected):
        addresses(cluster="kubernetes", wait_for_workers=0.1)

    def sleep(seconds):
        pods[1:] = [pod("w-1", "b", "Pending" if len(pods) == 1 else "Running")]

    monkeypatch.setattr(connecting.time, "sleep", sleep)
    workers, _ = addresses(cluster="kubernetes", wait_for_workers=9.0)
    assert workers == ["10.0.0.1:8470", "b:8470"]


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"SLURM_LOCALID": "1"}, 8471),
        ({"SLURM_LOCALID": ""}, "must be started by srun"),
        ({"SLURM_LOCALID": "x"}, "must be started by srun"),
    ],
)
def test_port_of_a_worker_of_slurm(variables, expected, monkeypatch):
    port_is(expected, "slurm", variables, monkeypatch)


@pytest.mark.parametrize(
    "task, expected",
    [
        ({"type": "worker", "index": 1}, 9002),
        ({"type": "worker", "index": 2}, "task 2 of the job 'worker'"),
        ({"type": "worker", "index": -1}, "task -1 of the job"),
        ({"type": "worker"}, "task None of the job"),
        ({"type": "chief", "index": 0}, "task 0 of the job 'chief'"),
        ({}, "task None of the job 'None'"),
    ],
)
def test_port_of_a_worker_of_tf_config(task, expected, monkeypatch):
    port_is(expected, "tf_config", {"TF_CONFIG": json.dumps({
        "cluster": {"worker": ["a:9001", "b:9002"], "chief": ["c:1"]},
        "task": task,
    })}, monkeypatch)


def port_is(expected, kind, variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    connecting.FLAGS["cluster"].value = kind
    if isinstance(expected, int):
        assert connecting.port_of_worker() == expected
    else:
        with pytest.raises(errors.UsageError, match=expected):
            connecting.port_of_worker()


def test_without_kubernetes(monkeypatch):
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(errors.UsageError, match="kubernetes"):
        addresses(cluster="kubernetes")


@pytest.mark.parametrize("host, workers, expected", [
    ("127.0.0.1", ["127.0.0.1:1", "localhost:2", "[::1]:3"], "lo"),
    ("10.0.0.1", ["10.0.0.2:1", "10.0.0.3:1"], "eth1"),
    ("fd00::1", ["[fd00::2]:1"], "eth1"),
    # One of them is on this machine, and comes by loopback.
    ("10.0.0.1", ["10.0.0.2:1", "10.0.0.1:1"], None),
    ("10.0.0.1", ["10.0.0.2:1", "127.0.0.1:1"], None),
    # No address of this machine: forwarded, perhaps.
    ("10.0.0.9", ["10.0.0.2:1"], None),
    ("10.0.0.1", ["nowhere.invalid:1"], None),
])
def test_interface_of_the_program(
    host, workers, expected, monkeypatch, caplog
):
    def address(text):
        return types.SimpleNamespace(address=text)

    monkeypatch.setattr(connection.psutil, "net_if_addrs", lambda: {
        "lo": [address("127.0.0.1"), address("::1")],
        "eth0": [address("192.168.0.1")],
        "eth1": [address("10.0.0.1"), address("fd00::1%eth1")],
    })
    assert connection._network_of(host, workers) == expected
    assert ("on all network interfaces" in caplog.text) == (expected is None)
