"""Traffic: the bytes sent between processes of this machine."""

import re
import subprocess


def between(pids):
    """Counts the bytes sent over the open connections.

    Args:
        pids: dict from names to process IDs.

    Returns:
        Dict from pairs of names, sender and receiver, to bytes, including
        headers of gRPC but not of TCP.

    Raises:
        OSError: without Linux's `ss`.
    """
    sockets = subprocess.run(
        ["ss", "-tinpHO"], capture_output=True, text=True, check=True
    ).stdout
    names = {pid: name for name, pid in pids.items()}
    owners, received = {}, {}
    for line in sockets.splitlines():
        # An address may name the interface it is bound to: 127.0.0.1%lo:2222.
        _, _, _, mine, theirs, *_ = re.sub(r"%\w+", "", line).split()
        owner = re.search(r"pid=(\d+)", line)
        count = re.search(r"bytes_received:(\d+)", line)
        if owner and int(owner[1]) in names:
            owners[mine, theirs] = names[int(owner[1])]
            received[mine, theirs] = int(count[1]) if count else 0
    found = dict.fromkeys(
        ((a, b) for a in pids for b in pids if a != b), 0
    )
    for (mine, theirs), count in received.items():
        sender = owners.get((theirs, mine))
        if sender not in (None, owners[mine, theirs]):
            found[sender, owners[mine, theirs]] += count
    return found
