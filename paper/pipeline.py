"""The notebooks of the paper in order, each through papermill, each skipped when nothing changed.

papermill takes ``sys.exit(0)`` for success, and a killed kernel leaves a notebook that looks
complete. So the closing line is looked for, and only then does the output get its name.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy
import papermill
import torch
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from fusionlib.baselines.published import weights_root
from fusionlib.errors import NotebookError
from fusionlib.files import REPOSITORY as ROOT
from fusionlib.files import file_sha256, lock, write_atomically
from paper.reported import results_root
from paper.run import Run, open_run

CLOSING_LINE = "notebook finished:"  # the last code cell prints f"{CLOSING_LINE} <stem>"
PARAMETERS = ("preset", "data_root", "encoder", "weights", "out_dir", "device", "seed")
TIMEOUT = 48 * 3600  # seconds for one cell
ADDED = {"injected-parameters", "papermill-error-cell-tag"}  # tags of cells by papermill
HEADING = re.compile(r"^#+ +(.+?) *$", re.M)
SHARED = ("parameters", "images", "weights")  # inputs that all steps of a run have in common
NOTEBOOK_NAME = re.compile(r"\d\d_\w+\.ipynb")  # 04_train.ipynb, not Untitled.ipynb


@dataclass(frozen=True)
class Step:
    """One notebook, ``ran`` or ``skipped``, and the seconds it took when it ran."""

    name: str
    status: str
    seconds: float
    output: Path


def run_paper(
    preset: str = "quick",
    *,
    data_root: str | Path | None = None,
    encoder: str = "embedded",
    weights: str | Path | None = None,
    device: str = "cpu",
    seed: int = 0,
    only: Sequence[str] | None = None,
    force: bool = False,
) -> list[Step]:
    """Runs the numbered notebooks in order, as far as needed; returns one step for each.

    Everything that is made goes to ``runs/<preset>`` below the current directory.

    Args:
        preset: One of ``PRESETS``.
        data_root: Folder of the datasets, or ``"synthetic"``; None: the notebooks choose.
        encoder: Name of the frozen image encoder.
        weights: Weights file; None: the notebooks choose.
        device: Where the networks run.
        seed: Seed of everything random.
        only: Stems of the notebooks to run, such as ``["04_train"]``; None for all.
        force: Repeat steps of which nothing changed.

    Raises:
        FusionError: a parameter is wrong, before a kernel starts; see `paper.run.open_run`.
        NotebookError: a notebook did not reach its closing line; then ``<stem>.failed.ipynb`` is
            what there is of it, and no later one is run.
    """
    folder = Path("runs", preset).absolute()
    given = (data_root and str(data_root), encoder, weights and str(weights))
    values = (preset, *given, str(folder), device, seed)
    parameters = dict(zip(PARAMETERS, values, strict=True))
    run = open_run(**parameters)  # raises before a kernel starts
    notebooks = {path.stem: path for path in find_notebooks(ROOT / "notebooks")}
    for name in set(only or ()) - set(notebooks):
        raise NotebookError(f"only: no notebook {name!r}; there are {', '.join(notebooks)}")
    try:
        (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotebookError(f"{folder}: cannot work there: {error}") from error
    with lock(folder / ".lock", NotebookError):  # one run at a time
        chosen = [path for name, path in notebooks.items() if name in (only or notebooks)]
        return [_step(path, run, parameters, force) for path in chosen]


def find_notebooks(folder: str | Path) -> list[Path]:
    """Lists the notebooks of the paper, ``NN_name.ipynb``, in order."""
    return sorted(p for p in Path(folder).glob("*.ipynb") if NOTEBOOK_NAME.fullmatch(p.name))


def complete_steps(steps: Sequence[Step]) -> list[Step]:
    """Adds the complete steps of earlier runs with the same parameters, images and weights.

    Args:
        steps: What `run_paper` returned, at least one.

    Returns:
        One step for each such notebook, in order; the code may have been older.
    """
    found, folder = {step.name: step for step in steps}, steps[0].output.parent
    records = {path.stem: read_json(path) for path in folder.glob("??_*.json")}
    own = records[steps[0].name]["inputs"]
    for name, record in records.items():
        output, inputs = folder / f"{name}.ipynb", record.get("inputs", {})
        is_same = all(inputs.get(key) == own[key] for key in SHARED)
        if name not in found and is_same and output.is_file():
            found[name] = Step(name, "skipped", record["seconds"], output)
    return [found[name] for name in sorted(found)]


def _step(path: Path, run: Run, parameters: dict, force: bool) -> Step:
    """Runs one notebook if its inputs ask for it, and gives the result its final name."""
    folder, output = run.out_dir, run.out_dir / "notebooks" / path.name
    record = output.with_suffix(".json")
    old, inputs = read_json(record), _inputs(path, run, parameters, output)
    reason = "forced" if force else _reason_to_run(old, inputs, output)
    if reason is None:
        print(f"{path.stem}: skipped", flush=True)
        return Step(path.stem, "skipped", old["seconds"], output)
    print(f"{path.stem}: running ({reason})", flush=True)
    record.unlink(missing_ok=True)  # a run that fails may already have replaced figures and tables
    before, start = _stats(folder.rglob("*")), time.monotonic()
    running, failed = (output.with_suffix(f".{word}.ipynb") for word in ("running", "failed"))
    try:
        _execute(path, parameters, running)
    except BaseException:
        if running.exists():
            os.replace(running, failed)
        raise
    os.replace(running, output)
    failed.unlink(missing_ok=True)
    step = Step(path.stem, "ran", time.monotonic() - start, output)
    print(f"{step.name}: ran ({step.seconds:.1f} s)", flush=True)
    changed = [Path(p) for p, stat in _stats(folder.rglob("*")).items() if before.get(p) != stat]
    written = [
        p.relative_to(folder).as_posix()
        for p in changed
        if p.parent != output.parent and not p.name.startswith(".")
    ]
    entry = {
        "seconds": step.seconds,
        "sha256": file_sha256(output),
        "written": {name: file_sha256(folder / name) for name in written},
        "inputs": inputs,
    }
    write_atomically(record, (json.dumps(entry, indent=1) + "\n").encode())
    return step


def _execute(path: Path, parameters: dict, target: Path) -> None:
    """Runs one notebook into ``target``; whatever ends it early becomes a NotebookError."""
    source, output = (re.sub("[{}]", r"\g<0>\g<0>", str(p)) for p in (path, target))  # formatted
    bar, cause = {"desc": path.stem, "leave": False}, None
    start, is_terminal = time.monotonic(), sys.stderr.isatty()

    def tell_section(cell: NotebookNode, cell_index: int) -> None:
        if cell.cell_type == "markdown" and (found := HEADING.findall(cell.source)):
            seconds = time.monotonic() - start
            print(f"{path.stem}: {seconds:.0f} s: {found[-1]}", file=sys.stderr, flush=True)

    try:
        executed = papermill.execute_notebook(
            source,
            output,
            parameters,
            kernel_name="python3",
            language="python",
            progress_bar=bar if is_terminal else False,
            on_cell_start=None if is_terminal else tell_section,
            start_timeout=600,
            iopub_timeout=600,  # seconds for late output; nbclient's 4 are few on a busy machine
            execution_timeout=TIMEOUT,
            kernel_manager_class=OwnKernel,
        )
        printed = "".join(o.get("text", "") for o in executed.cells[-1].get("outputs", ()))
        line = f"{CLOSING_LINE} {path.stem}"
        what = "" if line in printed.splitlines() else f"ended without printing {line!r}"
    except PapermillExecutionError as error:
        what, cause = f"{error.ename}: {error.evalue}", error
    except DeadKernelError as error:
        what, cause = "the kernel died (killed, or out of memory)", error
    except Exception as error:  # time is up, no kernel, full disk
        what, cause = f"{type(error).__name__}: {str(error).strip()}", error
    if what:
        raise NotebookError(f"{path.name}{_place(target)}: {what}") from cause


def _place(executed: Path) -> str:
    """Section and number of the last cell that was started; not counted is what papermill adds."""
    heading, number, place = "", 0, ""
    with suppress(Exception):  # nothing was written, or half a file on a full disk
        for cell in nbformat.read(executed, as_version=4).cells:
            if ADDED & set(cell.metadata.get("tags", ())):
                continue
            number += 1
            if cell.cell_type == "markdown":
                heading = [heading, *HEADING.findall(cell.source)][-1]
            if cell.metadata.papermill.start_time:
                place = f", section {heading!r}, cell {number}"
    return place


class OwnKernel(AsyncKernelManager):
    """Starts this interpreter with this package, whatever kernel a notebook or papermill names."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """Of this interpreter, with this checkout first in its path."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {"PYTHONPATH": os.pathsep.join(paths).replace("$", "$$")}  # values are templates
        env |= {"PYTHONHASHSEED": "0", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
        # glibc keeps freed memory: fusing on the CPU takes a third of the time
        env |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
        env |= {} if sys.stderr.isatty() else {"TQDM_DISABLE": "1"}
        return KernelSpec(**get_kernel_dict(["--IPKernelApp.log_level=ERROR"]), env=env)


def code_hash() -> str:
    """Of all modules as they are now; the inputs of a step's record have that of when it ran."""
    return _hash_contents([*ROOT.glob("fusionlib/**/*.py"), *ROOT.glob("paper/**/*.py")])


def _inputs(path: Path, run: Run, parameters: dict, output: Path) -> dict:
    """What a step depends on: images by name, size and time, other files by their content."""
    pairs = [pair for part in ("train", "val", "test") for pair in run.pairs(part)]
    committed = [p for p in ROOT.glob("data/*") if p.name not in ("images", "downloads", "results")]
    others = [*weights_root().rglob("*"), *results_root().glob("*/*/*")]
    earlier = [file for file in output.parent.glob("??_*.json") if file.stem < output.stem]
    cells = [(c.cell_type, c.source) for c in nbformat.read(path, as_version=4).cells]
    return {
        "notebook": _hash(cells),  # without outputs
        "parameters": parameters,
        "code": code_hash(),
        "data": _hash_contents([p for top in committed for p in (top, *top.rglob("*"))]),
        "images": _hash(_stats(path for pair in pairs for path in (pair.ir, pair.vi))),
        "weights": parameters["weights"] and file_sha256(run.weights),
        "others' weights and results": _hash(_stats(others)),
        "environment": [sys.version, torch.__version__, numpy.__version__, torch.get_num_threads()],
        "earlier steps": {record.stem: read_json(record).get("sha256") for record in earlier},
    }


def _reason_to_run(record: dict, inputs: dict, output: Path) -> str | None:
    if not record:
        return "no complete run so far"
    if changed := [key for key in inputs if record["inputs"].get(key) != inputs[key]]:
        return f"changed: {', '.join(changed)}"
    made = {f"notebooks/{output.name}": record["sha256"]} | record["written"]
    folder = output.parent.parent
    gone = [n for n in made if not (folder / n).is_file() or file_sha256(folder / n) != made[n]]
    return f"gone or changed: {', '.join(gone)}" if gone else None


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _hash_contents(paths: Iterable[Path]) -> str:
    return _hash([(str(p.relative_to(ROOT)), file_sha256(p)) for p in sorted(paths) if p.is_file()])


def _stats(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Size and time of files, which say at no cost whether one has changed."""
    stats = {str(path): path.stat() for path in sorted(paths) if path.is_file()}
    return {path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}


def read_json(path: Path) -> dict:
    """A record; empty if it is missing or spoiled."""
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}
