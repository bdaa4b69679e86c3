"""Flags that name the workers of a cluster, and recovery of runs there."""

import contextlib
import os
import sys
import threading
import time

import tensorflow as tf
from absl import flags

import fr_keras.cluster
from trainers.command import errors, signals

FLAGS = flags.FLAGS

# Initial number of workers of a run resumed in this process.
_EXPECTED = "FR_KERAS_NUM_WORKERS"

flags.DEFINE_list(
    "workers", [],
    "Addresses of the workers to train on, host:port,host:port "
    "(docs/scaling.md). Default: train on the devices of this machine.",
)
flags.DEFINE_enum(
    "cluster", None, ["tf_config", "slurm", "kubernetes"],
    "Where to find the workers, in place of --workers: the environment "
    "variable TF_CONFIG, Slurm or Kubernetes.",
)
flags.DEFINE_integer(
    "worker_port", 8470,
    "Port of the workers, for --cluster=kubernetes and --cluster=slurm (which "
    "also uses the following ports if a machine has several workers).",
    lower_bound=1, upper_bound=65_535,
)
flags.DEFINE_string(
    "kubernetes_selector", "app=fr-keras-worker",
    "Labels of the pods of the workers, for --cluster=kubernetes.",
)
flags.DEFINE_string(
    "coordinator", None,
    "Address at which workers reach this program, host:port. Default: a free "
    "port of the address from which this program reaches the first worker.",
)
flags.DEFINE_string(
    "coordinator_interface", "auto",
    "Network interface on which workers reach this program: auto for that of "
    "its address, all for every interface.",
)
flags.DEFINE_float(
    "wait_for_workers", 60.0,
    "Seconds to wait for workers that are not available."
)
flags.DEFINE_float(
    "worker_patience", 60.0,
    "Seconds without an answer after which a worker counts as lost.",
)
flags.DEFINE_integer(
    "recoveries", 3,
    "How many times a run resumes by itself, from its newest checkpoint, after "
    "a worker was lost.",
    lower_bound=0, upper_bound=1_000_000,
)
flags.DEFINE_enum(
    "on_lost_worker", "wait", ["wait", "shrink"],
    "If a lost worker does not come back within --wait_for_workers: end "
    "(wait), or resume with the others, whose devices the modules then share "
    "(shrink).",
)
for _name in ("wait_for_workers", "worker_patience"):
    flags.register_validator(
        _name, lambda seconds: 0 < seconds < float("inf"),
        "must be positive and finite",
    )
flags.register_validator(
    "coordinator_interface", lambda name: 0 < len(name) < 16,
    "must name an interface",
)
flags.register_validator(
    "kubernetes_selector", lambda labels: bool(labels.strip()),
    "must name labels, like app=fr-keras-worker",
)
flags.register_multi_flags_validator(
    ["workers", "cluster"],
    lambda values: not (values["workers"] and values["cluster"]),
    "--workers and --cluster cannot be combined",
)


def is_wanted():
    """Whether the run uses a cluster."""
    return bool(FLAGS.workers or FLAGS.cluster)


@contextlib.contextmanager
def connected(has_begun):
    """Connects to the workers, if any, and watches them.

    If a worker is lost, this process is replaced by one that resumes the run,
    at most --recoveries times. This discards the work begun on the other
    workers and the calls that wait for an answer. The process ends as if it
    had been killed, which a run survives.

    Args:
        has_begun: bool, whether the run is resumed, so that missing workers
            count as lost.

    Raises:
        Unavailable: if the workers cannot be connected to.
    """
    if not is_wanted():
        yield
        return
    try:
        may_shrink = has_begun and FLAGS.on_lost_worker == "shrink"
        workers, coordinator = addresses(may_shrink)
        if may_shrink:
            workers = _without_lost(workers)
        fr_keras.cluster.connect(
            workers, FLAGS.coordinator or coordinator, FLAGS.wait_for_workers,
            None if FLAGS.coordinator_interface == "all"
            else FLAGS.coordinator_interface,
        )
        watch = fr_keras.cluster.Watch(workers, FLAGS.worker_patience)
    except ValueError as error:
        raise errors.UsageError(str(error)) from error
    except fr_keras.cluster.WorkerError as error:
        raise errors.Unavailable(str(error)) from error
    once = threading.Lock()

    def resume_after(loss):
        once.acquire()  # Permanently: the first to notice ends this process.
        _resume_after(loss, workers)

    watch.start(resume_after)
    try:
        yield
    except errors.Interrupted:
        raise
    except Exception:
        loss = watch.lost()
        if loss is not None:
            resume_after(loss)
        raise
    finally:
        watch.stop()


def _without_lost(workers):
    """Drops the workers that do not come back.

    Args:
        workers: list of str, addresses.

    Raises:
        Unavailable: if none is left.
    """
    left = fr_keras.cluster.present(workers, FLAGS.wait_for_workers)
    lost = [address for address in workers if address not in left]
    if not left:
        raise errors.Unavailable(
            "None of the workers is available after "
            f"{FLAGS.wait_for_workers:g} s. Received: {', '.join(workers)}"
        )
    if lost:
        errors.tell(
            f"Not available after {FLAGS.wait_for_workers:g} s: "
            f"{', '.join(lost)}; resuming with {', '.join(left)}"
        )
    return left


def _resume_after(loss, workers):
    """Resumes the run in a new process, or exits; does not return.

    Args:
        loss: str, which worker is lost, and how.
        workers: list of str, addresses of all workers.
    """
    left = FLAGS.recoveries - 1
    fr_keras.cluster.release(workers)
    if signals.noted() is not None:
        # The workers may have received a signal, too.
        errors.tell(
            f"{loss}; repeat the command to resume from the newest checkpoint"
        )
        os._exit(128 + signals.noted())
    if left < 0:
        errors.tell(
            f"{loss}, and all --recoveries are used up. Repeat the command to "
            "resume from the newest checkpoint"
        )
        # Not by an exception, which would wait for TensorFlow to return.
        os._exit(errors.Unavailable.status)
    errors.tell(
        f"{loss}; resuming from the newest checkpoint when it is back"
    )
    os.environ.setdefault(_EXPECTED, str(len(workers)))
    sys.stdout.flush()
    os.execv(
        sys.executable,
        # The last one counts.
        [sys.executable, *sys.orig_argv[1:], f"--recoveries={left}"],
    )


def addresses(may_shrink=False):
    """The addresses of the cluster.

    Args:
        may_shrink: bool, whether there may be fewer than the run began with.

    Returns:
        Tuple `(workers, coordinator)`: list of str and str or `None`.

    Raises:
        UsageError: if `--cluster` does not provide them.
    """
    if not FLAGS.cluster:
        return FLAGS.workers, None
    end = time.monotonic() + FLAGS.wait_for_workers
    while True:
        # Pods come and go; the other resolvers read fixed lists.
        is_last = FLAGS.cluster != "kubernetes" or time.monotonic() > end
        try:
            spec = _cluster_spec(0 if may_shrink and is_last else int(
                os.environ.get(_EXPECTED, 0)
            ))
            break
        except _NotYet as error:
            if is_last:
                raise errors.UsageError(str(error)) from error
        time.sleep(0.5)
    own = spec.get("coordinator") or spec.get("chief") or [None]
    return spec["worker"], own[0]


class _NotYet(Exception):
    """Workers that may become available later."""


def _cluster_spec(expected):
    """The cluster named by `--cluster`, a dict from jobs to address lists.

    Args:
        expected: int, minimum number of workers.

    Raises:
        UsageError: if it names no cluster.
        _NotYet: if it names too few workers.
    """
    given = f"--cluster={FLAGS.cluster}"
    try:
        spec = resolver().cluster_spec().as_dict()
    # The resolvers have no specific exception.
    except Exception as error:
        # TensorFlow's resolver raises it for a pod that does not run.
        kind = _NotYet if type(error) is RuntimeError else errors.UsageError
        raise kind(
            f"{given}: the workers cannot be determined: {error!r}"
        ) from error
    workers = spec.get("worker")
    if not workers:
        raise _NotYet(f"{given} must name a job 'worker'. Received: {spec}")
    if len(workers) < expected:
        raise _NotYet(
            f"{given} must name the {expected} workers that the run started "
            f"with. Received: {workers}"
        )
    return spec


def port_of_worker():
    """The port that the cluster assigns to this worker."""
    if FLAGS.cluster is None:
        raise errors.UsageError(
            "--port or --cluster must set the port to listen on. Received: "
            "neither"
        )
    if FLAGS.cluster == "kubernetes":
        return FLAGS.worker_port
    if FLAGS.cluster == "slurm":
        # As the resolver assigns ports to the tasks of a machine.
        local = os.environ.get("SLURM_LOCALID", "")
        if not (local.isascii() and local.isdigit()):
            raise errors.UsageError(
                "--cluster=slurm: a worker must be started by srun, which sets "
                f"SLURM_LOCALID. Received: SLURM_LOCALID={local!r}"
            )
        return FLAGS.worker_port + int(local)
    workers, _ = addresses()
    named = resolver()
    kind, task = named.task_type, named.task_id
    if kind != "worker" or task not in range(len(workers)):
        raise errors.UsageError(
            f"--cluster={FLAGS.cluster}: this process must be one of "
            f"{len(workers)} workers. Received: task {task} of the job '{kind}'"
        )
    return int(workers[task].rpartition(":")[2])


def resolver():
    """TensorFlow's cluster resolver for `--cluster`."""
    resolvers = tf.distribute.cluster_resolver
    if FLAGS.cluster == "tf_config":
        return resolvers.TFConfigClusterResolver()
    if FLAGS.cluster == "slurm":
        # The batch script is not a step; the step's variables are those of the
        # job there.
        for of_step, of_job in (
            ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"),
            ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
            ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"),
        ):
            if of_job in os.environ:
                os.environ.setdefault(of_step, os.environ[of_job])
        # Slurm itself decides which GPUs a task sees; the resolver must be
        # given more of them than there are tasks, or it drops some tasks.
        return resolvers.SlurmClusterResolver(
            port_base=FLAGS.worker_port, gpus_per_node=10_000, gpus_per_task=1,
            auto_set_gpu=False,
        )
    from kubernetes import client, config

    try:
        config.load_incluster_config()
    except config.ConfigException:
        config.load_kube_config()
    return resolvers.KubernetesClusterResolver(
        {"worker": [FLAGS.kubernetes_selector]}, FLAGS.worker_port,
        override_client=client.CoreV1Api(),
    )
