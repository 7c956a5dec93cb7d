"""The outputs of the teaching notebooks as they are committed: run in place, then normalised.

``make outputs`` runs this, on the drawn scenes, so no image of a dataset can get in. What is left
is what a reader sees and nbval compares; nothing says when, where or how fast it ran.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from fusionlib.datasets import DRAWN
from fusionlib.errors import NotebookError
from fusionlib.files import REPOSITORY, write_atomically
from paper.pipeline import OwnKernel
from paper.teaching import WIDGET

TEACHING = ("01_network", "02_cii", "03_cff")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def renew_outputs(path: Path) -> None:
    """Run a notebook from the top in its own folder and put its outputs in place.

    Args:
        path: the notebook; it stays as it was when a cell fails.

    Raises:
        NotebookError: something was written to stderr.
    """
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=None,  # however slow the machine
        iopub_timeout=600,
        kernel_manager_class=OwnKernel,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    ).execute(env=os.environ | {"FUSIONLIB_DATA": DRAWN, "TQDM_DISABLE": "1"})
    normalise(notebook, path.name)
    write_atomically(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())


def normalise(notebook: NotebookNode, name: str) -> None:
    """Drop what differs between two equal runs, and widgets, which no reader can revive.

    Raises:
        NotebookError: something was written to stderr, which nbval would compare.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        kept = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise NotebookError(f"{name}, cell {cell.id}: stderr: {output.text.strip()}")
            if "data" in output:
                output.data.pop(WIDGET, None)
                output.metadata = nbformat.from_dict({})


if __name__ == "__main__":
    for stem in sys.argv[1:] or TEACHING:
        renew_outputs(REPOSITORY / "notebooks" / f"{stem}.ipynb")
        print(f"notebooks/{stem}.ipynb", flush=True)
