"""The outputs that the notebooks are committed with, taken from those of a run.

``python -m paper.outputs runs/cpu 05_compare 08_report`` puts what these showed in that run into
``notebooks/``, without what differs between two equal runs; a line under the title says which run
it was. ``make outputs`` runs the teaching notebooks on the drawn scenes and does the same.
"""

import json
import os
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from fusionlib.errors import NotebookError
from fusionlib.files import REPOSITORY, write_atomically
from fusionlib.versions import commit
from fusionlib.weights import load_weights
from paper.pipeline import code_hash, read_json
from paper.run import open_run
from paper.teaching import WIDGET

TEACHING = ("00_data", "01_network", "02_cii", "03_cff")  # of drawn and permitted scenes
PICTURES = "dataset-pictures"  # tag of a cell that shows images of whatever data there is
INSTEAD = (
    "(pictures of the datasets, which are not in this repository: run this notebook to see them; "
    "those of the drawn scenes are in figures/synthetic/)"
)
FOLDERS = ("FUSIONLIB_DATA", "FUSIONLIB_RESULTS", "FUSIONLIB_WEIGHTS")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def commit_outputs(
    folder: Path, stems: list[str], notebooks: Path = REPOSITORY / "notebooks"
) -> None:
    """Put the outputs of a run into the notebooks of a checkout.

    Args:
        folder: of the run, such as ``runs/quick``.
        stems: which notebooks.
        notebooks: those of the checkout.

    Raises:
        NotebookError: not run with the code and data of now; or would show images of a dataset.
    """
    texts = {}  # all of them before the first is written, which changes the checkout
    for stem in stems:
        path = folder / "notebooks" / f"{stem}.ipynb"
        record = read_json(path.with_suffix(".json"))
        if not record or record["inputs"]["code"] != code_hash():
            raise NotebookError(f"{path}: no complete run of {stem} with the code as it is now")
        run = open_run(**record["inputs"]["parameters"])
        if not any(f"/{run.label}/" in name for name in record["written"]):
            raise NotebookError(f"{path}: of other data: set $FUSIONLIB_DATA as when it ran")
        if stem in TEACHING and not run.is_synthetic:
            raise NotebookError(f"{path}: shows images of the datasets; use data_root 'synthetic'")
        source, executed = (nbformat.read(p, as_version=4) for p in (notebooks / path.name, path))
        made, weights = take_outputs(source, executed, run.is_synthetic), load_weights(run.weights)
        origin = (
            f"*Outputs below: {run.data_title}; preset {run.preset}; encoder "
            f"{weights.encoder_title}; weights {run.weights.name}; commit {commit() or 'unknown'}.*"
        )
        first = next(cell for cell in made.cells if cell.cell_type == "code")
        data = {"text/markdown": origin, "text/plain": origin}
        first.outputs = [nbformat.v4.new_output("display_data", data)]
        texts[path.name] = nbformat.writes(made).rstrip("\n") + "\n"
    for name, text in texts.items():
        write_atomically(notebooks / name, text.encode())


def take_outputs(
    source: NotebookNode, executed: NotebookNode, keep_pictures: bool = True
) -> NotebookNode:
    """A notebook with the outputs of its executed copy, but for what no reader can use.

    Without widgets, times, papermill's cell, and, on demand, the images of cells tagged `PICTURES`.

    Raises:
        NotebookError: the cells differ, or something was written to stderr.
    """
    cells = [c for c in executed.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    if [c.source for c in cells] != [c.source for c in source.cells]:
        raise NotebookError(f"{source.cells[0].source.splitlines()[0]}: changed since it ran")
    source.metadata, count = nbformat.from_dict(METADATA), 0
    for cell, done in zip(source.cells, cells, strict=True):
        kept = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            cell.execution_count = count = count + 1
            hidden = PICTURES in kept.get("tags", []) and not keep_pictures
            cell.outputs = [
                _clean(output, count, hidden)
                for output in done.outputs
                if "%|" not in output.get("data", {}).get("text/plain", "")  # progress bars
            ]
    return source


def _clean(output: NotebookNode, count: int, hide_image: bool) -> NotebookNode:
    text = json.dumps(output)
    for name in FOLDERS:  # where they are on the machine that ran it says nothing to others
        if Path(folder := os.environ.get(name, "")).is_absolute():
            text = text.replace(folder, f"${name}")
    output = nbformat.from_dict(json.loads(text))
    if output.get("name") == "stderr":
        raise NotebookError(f"code cell {count}: stderr: {output.text.strip()}")
    if "execution_count" in output:
        output.execution_count = count
    if "data" in output:
        output.metadata = nbformat.from_dict({})
        output.data.pop(WIDGET, None)
        if hide_image and output.data.pop("image/png", None):
            output.data = nbformat.from_dict({"text/plain": INSTEAD})
    return output


if __name__ == "__main__":
    commit_outputs(Path(sys.argv[1]), sys.argv[2:])
