"""How TensorFlow allocates memory, set before it starts."""

import os


def set_up():
    """Takes GPU memory as it is needed, and counts all CPU memory.

    Several runs, or a run and a desktop, can then share a GPU, which TensorFlow
    would take whole. (Its setting for a device applies neither to logical
    devices nor to the server of a worker.) Of a CPU, it counts only tensors of
    256 KiB or more, and those only with oneDNN, unless all are allocated by the
    allocator that GPUs have.

    Variables that are already set are left alone.
    """
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    # Its limit is otherwise 64 GiB, however large the machine is.
    os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(2**24))
