r"""Runs a command in a private network that nobody else can reach.

    python -m trainers.private_network python -m trainers.local_cluster ...

The network consists of a loopback only: other users of this machine cannot
reach servers in it, and programs in it reach no other machine. Linux allows
this to root, and to every user if it allows user namespaces.
"""

from trainers.workers import private_network

if __name__ == "__main__":
    private_network.main()
