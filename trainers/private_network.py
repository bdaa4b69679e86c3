r"""Runs a command in a network of its own, which nobody else reaches.

    python -m trainers.private_network python -m trainers.local_cluster ...

It has a loopback and nothing else: what listens there is out of reach for the
other users of this machine, and what runs there reaches no other machine. Linux
gives such networks to root, and to every user where it lets users have
namespaces of their own.
"""

from trainers.workers import private_network

if __name__ == "__main__":
    private_network.main()
