"""One entry point for all commands: `fr-keras train --flagfile=...`."""

import os
import runpy
import sys

COMMANDS = {
    "train": ("trainers.train", "train a network that is split into modules"),
    "evaluate": ("trainers.evaluate", "evaluate the network of a run"),
    "compare": ("trainers.compare", "train and compare several algorithms"),
    "plan": ("trainers.plan", "predict speed and memory for K devices"),
    "plot": ("trainers.plot", "plot the diagnostics of a run"),
    "study": ("trainers.study", "train with simulated delays, on one device"),
    "benchmark": ("trainers.benchmark", "measure speed, memory and recovery"),
    "doctor": ("trainers.doctor", "examine devices, libraries and links"),
    "worker": ("trainers.worker", "offer this machine's devices to a run"),
    "cluster": ("trainers.local_cluster", "train on workers on this machine"),
}

_NAME = "fr-keras"


def usage():
    """Returns the output of `fr-keras --help`."""
    lines = [
        "Trains deep networks as modules in parallel (Features Replay).", "",
        f"usage: {_NAME} COMMAND [--flags]", "",
        *(f"    {name:10} {does}" for name, (_, does) in COMMANDS.items()), "",
        f"{_NAME} COMMAND --helpshort lists the flags of a command.",
    ]
    return "\n".join(lines)


def main():
    """Runs the command named by the first argument."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("help", "-h", "-help", "--help", "--helpshort", "--helpfull"):
        print(usage())
        return
    if name not in COMMANDS:
        print(
            f"{_NAME}: expected one of {', '.join(COMMANDS)}. "
            f"Received: {name}", file=sys.stderr,
        )
        sys.exit(2)
    module, _ = COMMANDS[name]
    sys.argv = [os.path.join(_NAME, name), *arguments]
    # A restart after a lost worker repeats the original command line.
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
