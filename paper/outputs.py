"""The outputs of the teaching notebooks as they are committed: run in place, then normalised.

``make outputs`` runs this. What is left is what a reader sees and nbval compares; nothing says
when, where or how fast it ran, and no image of a dataset can get in.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from fusionlib.datasets import REAL, chosen_root, find_pairs
from fusionlib.errors import NotebookError
from fusionlib.files import REPOSITORY, write_atomically
from paper.pipeline import OwnKernel
from paper.teaching import WIDGET

TEACHING = ("01_network", "02_cii", "03_cff")
CELL_SECONDS = 300
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def renew_outputs(path: Path) -> None:
    """Run a notebook from the top in its own folder and put its outputs in place.

    Args:
        path: the notebook; it stays as it was when a cell fails.

    Raises:
        NotebookError: there are images of the datasets where the notebook would look for some, or
            something was written to stderr.
    """
    root = chosen_root()
    if root and root.is_dir() and any(find_pairs(root, name) for name in REAL):
        raise NotebookError(
            f"{root} holds images of the datasets, which must not get into committed outputs: "
            f"set FUSIONLIB_DATA=synthetic, as `make outputs` does"
        )
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        iopub_timeout=60,
        kernel_manager_class=OwnKernel,
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    ).execute()
    normalise(notebook, path.name)
    write_atomically(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode())


def normalise(notebook: NotebookNode, name: str = "notebook") -> None:
    """Drop what differs between two equal runs, and widgets, which no reader can revive.

    Args:
        notebook: changed in place.
        name: what an error calls it.

    Raises:
        NotebookError: something was written to stderr, which nbval would compare.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        kept = ("tags", "jupyter")
        cell.metadata = nbformat.from_dict(
            {k: cell.metadata[k] for k in kept if k in cell.metadata}
        )
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                raise NotebookError(f"{name}, cell {cell.id}: stderr: {output.text.strip()}")
            if "data" in output:
                output.data.pop(WIDGET, None)
                output.metadata = nbformat.from_dict({})


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    for stem in sys.argv[1:] or TEACHING:
        renew_outputs(REPOSITORY / "notebooks" / f"{stem}.ipynb")
        print(f"notebooks/{stem}.ipynb", flush=True)
