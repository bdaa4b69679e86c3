"""The table of faults in docs/reliability.md."""

import pathlib
import tempfile

from tests.command_line import ROOT
from tests.faults.base import FAULTS, make_base, row

DOCUMENT = ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- faults -->\n", "<!-- end of faults -->\n"


def table(base, folder):
    """The table of all faults, a text."""
    lines = [
        "| what goes wrong | the run | status | and says |",
        "|---|---|---|---|",
    ]
    for name in FAULTS:
        (folder / name).mkdir()
        lines.append(f"| {' | '.join(row(base, name, folder / name))} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def documented():
    """The rows of the table in the document, a list of texts."""
    text = DOCUMENT.read_text()
    inside = text[text.index(_BEGIN) + len(_BEGIN):text.index(_END)]
    return inside.splitlines()[2:]


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        new = table(make_base(folder), folder)
    text = DOCUMENT.read_text()
    begin, end = text.index(_BEGIN) + len(_BEGIN), text.index(_END)
    DOCUMENT.write_text(text[:begin] + new + text[end:])


