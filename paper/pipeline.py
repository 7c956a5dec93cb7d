"""The notebooks of the paper in order, each through papermill, each skipped when nothing changed.

By itself papermill only warns of an unknown parameter, takes ``sys.exit(0)`` for success, and a
killed kernel leaves a notebook that looks complete. So here parameters are compared before a kernel
starts, the time is limited, the closing line is looked for, and only then is the output renamed.
"""

import ast
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
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
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from fusionlib.baselines.published import weights_root
from fusionlib.datasets import DRAWN, chosen_root
from fusionlib.errors import NotebookError
from fusionlib.files import REPOSITORY as ROOT
from fusionlib.files import file_sha256, lock, write_atomically
from fusionlib.recipe import PRESETS
from paper.reported import results_root

CLOSING_LINE = "notebook finished:"  # the last code cell prints f"{CLOSING_LINE} <stem>"
PARAMETERS = ("preset", "data_root", "encoder", "weights", "out_dir", "device", "seed")
NOTEBOOK_NAME = re.compile(r"\d\d_\w+\.ipynb")  # 04_train.ipynb, not Untitled.ipynb


@dataclass(frozen=True)
class Step:
    """What became of one notebook; ``status`` is ``ran``, ``skipped`` or ``failed``."""

    name: str
    notebook: Path
    status: str
    seconds: float
    output: Path


def run_paper(
    preset: str = "quick",
    *,
    data_root: str | Path | None = None,
    encoder: str = "embedded",
    weights: str | Path | None = None,
    runs_dir: str | Path = "runs",
    device: str = "cpu",
    seed: int = 0,
    only: Sequence[str] | None = None,
    force: bool = False,
    notebooks_dir: str | Path | None = None,
    timeout: float = 3600.0,
) -> list[Step]:
    """Runs the numbered notebooks in order, as far as needed; returns one step for each.

    Args:
        preset: One of ``PRESETS``; also the name of the folder for everything that is made.
        data_root: Folder of the datasets, or ``"synthetic"``; None leaves the choice to the
            notebooks.
        encoder: Name of the frozen image encoder.
        weights: Weights file; None leaves the choice, too.
        runs_dir: Where the folder of the preset is.
        device: Where the networks run.
        seed: Seed of everything random.
        only: Stems of the notebooks to run, such as ``["04_train"]``; None for all.
        force: Repeat steps of which nothing changed.
        notebooks_dir: Folder of the notebooks; None for the one of this checkout.
        timeout: Seconds for one whole notebook.

    Raises:
        NotebookError: refused before a kernel starts, or a notebook did not reach its closing line;
            then ``<stem>.failed.ipynb`` is what there is of it, and no later one is run.
    """
    if preset not in PRESETS:
        raise NotebookError(f"parameter 'preset': {preset!r}; accepted are {', '.join(PRESETS)}")
    folder = Path(os.path.abspath(os.path.expanduser(runs_dir)), preset)
    values = (preset, _absolute("data_root", data_root), encoder, _absolute("weights", weights))
    parameters = dict(zip(PARAMETERS, (*values, str(folder), device, seed), strict=True))
    sources = _read_and_check(find_notebooks(notebooks_dir or ROOT / "notebooks"), only, parameters)
    try:
        (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotebookError(f"{folder}: cannot work there: {error}") from error
    with lock(folder / ".lock", NotebookError):  # one run at a time
        return [_step(*item, parameters, force, timeout) for item in sources.items()]


def find_notebooks(folder: str | Path) -> list[Path]:
    """Lists the notebooks of the paper, ``NN_name.ipynb``, in order; at least one."""
    folder = Path(os.path.abspath(folder))
    found = sorted(p for p in folder.glob("*.ipynb") if NOTEBOOK_NAME.fullmatch(p.name))
    if not found:
        raise NotebookError(f"{folder}: no notebooks named like 00_data.ipynb; pass notebooks_dir")
    return found


def complete_steps(steps: Sequence[Step]) -> list[Step]:
    """Adds the steps of earlier runs to those of one, as far as they belong together.

    Args:
        steps: What `run_paper` returned.

    Returns:
        One step for each notebook that has a complete output of the same parameters, images and
        weights, in order; the code may have been older.
    """
    if not steps:
        return []
    own = _of_run(_read_json(steps[0].output.with_suffix(".json")))
    found = {step.name: step for step in steps}
    for path in find_notebooks(steps[0].notebook.parent):
        output = steps[0].output.with_name(path.name)
        record = _read_json(output.with_suffix(".json"))
        is_complete = output.is_file() and file_sha256(output) == record.get("sha256")
        if path.stem not in found and is_complete and _of_run(record) == own:
            found[path.stem] = Step(path.stem, path, "skipped", record["seconds"], output)
    return sorted(found.values(), key=lambda step: step.name)


def _of_run(record: dict) -> tuple:
    """What steps have in common that one report can show side by side."""
    inputs = record["inputs"]
    parameters = {k: v for k, v in inputs["parameters"].items() if k != "data_root"}
    return parameters, inputs["images"], inputs["weights"]


def _read_and_check(notebooks: list[Path], only: Sequence[str] | None, parameters: dict) -> dict:
    names = [path.stem for path in notebooks]
    for name in set(only or ()) - set(names):
        raise NotebookError(f"only: no notebook {name!r}; there are {', '.join(names)}")
    sources = {}
    for path in (p for p in notebooks if only is None or p.stem in only):
        try:
            sources[path] = nbformat.read(path, as_version=4)
        except Exception as error:  # nbformat's, json's, unicode's and the system's
            raise NotebookError(f"{path}: not a readable notebook: {error}") from error
        check_parameters(path, sources[path], parameters)
    return sources


def check_parameters(path: Path, source: NotebookNode, parameters: dict) -> None:
    """Compares the parameters cell with what is given; a default of None accepts every type."""
    declared = _declared_parameters(path, source)
    accepted = f"accepted are {', '.join(parameters)}"
    for name in [*declared, *parameters]:
        if name not in parameters:
            raise NotebookError(f"{path.name}: unknown parameter {name!r}; {accepted}")
        if name not in declared:
            raise NotebookError(f"{path.name}: parameter {name!r} is missing; {accepted}")
        kind, given = type(declared[name]), type(parameters[name])
        if given is not kind and kind is not type(None) and (kind, given) != (float, int):
            raise NotebookError(
                f"{path.name}: parameter {name!r} must be {kind.__name__} like its default "
                f"{declared[name]!r}, not {given.__name__} {parameters[name]!r}; {accepted}"
            )


def _declared_parameters(path: Path, source: NotebookNode) -> dict[str, object]:
    """Reads the tagged cell with ast; papermill's own reader gives up on a second '=' in a line."""
    cells = [c.source for c in source.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"{path.name}: {len(cells)} cells tagged 'parameters', one is needed")
    declared = {}
    try:
        for node in ast.parse(cells[0]).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            declared[target.id] = ast.literal_eval(node.value)
    except (SyntaxError, ValueError, TypeError, AttributeError) as error:
        raise NotebookError(
            f"{path.name}: the parameters cell holds more than lines like seed = 0 ({error})"
        ) from None
    return declared


def _absolute(name: str, value: str | Path | None) -> str | None:
    if value is None or (name == "data_root" and value == DRAWN):
        return value
    path = Path(os.path.abspath(os.path.expanduser(str(value))))
    if not (path.is_file() if name == "weights" else path.is_dir()):
        raise NotebookError(f"parameter {name!r}: {path} does not exist, or is of the wrong kind")
    return str(path)


def _step(path: Path, source: NotebookNode, parameters: dict, force: bool, timeout: float) -> Step:
    """Runs one notebook if its inputs ask for it, and gives the result its final name."""
    folder, start = Path(parameters["out_dir"]), time.monotonic()
    output = folder / "notebooks" / path.name
    record = output.with_suffix(".json")

    def finish(status: str) -> Step:
        step = Step(path.stem, path, status, time.monotonic() - start, output)
        print(f"{step.name}: {status} ({step.seconds:.1f} s)", flush=True)
        return step

    records = [file for file in output.parent.glob("??_*.json") if file.name < record.name]
    inputs = _inputs(source, parameters, records)
    reason = "forced" if force else _reason_to_run(_read_json(record), inputs, output)
    if reason is None:
        return finish("skipped")
    print(f"{path.stem}: running ({reason})", flush=True)
    record.unlink(missing_ok=True)  # a run that fails may already have replaced figures and tables
    before = _measure(folder, skip=[output.parent])
    running, failed = (output.with_suffix(f".{word}.ipynb") for word in ("running", "failed"))
    try:
        _execute(path, source, parameters, running, timeout)
    except BaseException:
        with suppress(Exception):  # nothing was written, or half a file on a full disk
            nbformat.read(running, as_version=4)
            os.replace(running, failed)
        running.unlink(missing_ok=True)
        finish("failed")
        raise
    os.replace(running, output)
    failed.unlink(missing_ok=True)
    step, after = finish("ran"), _measure(folder, skip=[output.parent])
    entry = {"seconds": step.seconds, "fingerprint": _hash(inputs), "sha256": file_sha256(output)}
    written = sorted(name for name in after if before.get(name) != after[name])
    written = {name: file_sha256(folder / name) for name in written}
    _write_json(record, entry | {"written": written, "inputs": inputs})
    return step


def _execute(path: Path, source: NotebookNode, parameters: dict, target: Path, timeout: float):
    """Runs one notebook into ``target``; whatever ends it early becomes a NotebookError."""
    deadline = time.monotonic() + timeout
    started, cause = [0], None  # the places of the cells that were started; what went wrong

    def refuse_quit(cell: NotebookNode, cell_index: int, execute_reply: dict) -> None:
        if "ask_exit" in str(execute_reply["content"].get("payload")):
            raise RuntimeError("quit() or exit() was called, which does not stop a notebook")

    try:
        executed = papermill.execute_notebook(
            *(re.sub("[{}]", r"\g<0>\g<0>", str(p)) for p in (path, target)),  # it formats them
            parameters,
            kernel_name="python3",
            language="python",
            progress_bar={"desc": path.stem, "leave": False} if sys.stderr.isatty() else False,
            start_timeout=120,
            iopub_timeout=60,  # seconds for late output; nbclient's 4 are few on a busy machine
            execution_timeout=int(timeout) + 1,  # for the kernel's last words; for each cell:
            timeout_func=lambda cell: max(deadline - time.monotonic(), 0.01),
            kernel_manager_class=OwnKernel,
            on_cell_execute=lambda cell, cell_index: started.append(cell_index),
            on_cell_executed=refuse_quit,
        )
        at, what = _early_end(executed, path.stem)
    except PapermillExecutionError as error:
        at, what, cause = error.cell_index, f"{error.ename}: {error.evalue}", error
    except Exception as error:  # dead kernel, time is up, no kernel, full disk
        at, what, cause = started[-1], f"{type(error).__name__}: {str(error).strip()}", error
        if isinstance(error, DeadKernelError):
            what = "the kernel died (killed, or out of memory)"
        elif isinstance(error, CellTimeoutError) and time.monotonic() >= deadline:
            what = f"not finished {timeout:g} s after the notebook started"
    if what:
        raise NotebookError(f"{path.name}, {_place(source, at)}: {what}") from cause


def _early_end(executed: NotebookNode, stem: str) -> tuple[int, str]:
    """Finds what papermill takes for success: a cell that exits, or no closing line at the end."""
    code = [(i, cell.outputs) for i, cell in enumerate(executed.cells) if cell.cell_type == "code"]
    for i, outputs in code:
        for error in (o for o in outputs if o.output_type == "error"):
            return i, f"{error.ename}: {error.evalue}"
    last, outputs = code[-1]
    printed = "".join(o.text for o in outputs if o.get("name") == "stdout").splitlines()
    line = f"{CLOSING_LINE} {stem}"
    return last, "" if line in printed else f"the last code cell did not print {line!r}"


def _place(source: NotebookNode, at: int) -> str:
    """Names section and number of a cell; papermill puts one more behind the parameters cell."""
    at -= any("parameters" in cell.metadata.get("tags", []) for cell in source.cells[:at])
    markdown = "\n".join(c.source for c in source.cells[:at] if c.cell_type == "markdown")
    headings = re.findall(r"^#+ +(.+?) *$", markdown, re.MULTILINE)
    return f"section {headings[-1]!r}, cell {at + 1}" if headings else f"cell {at + 1}"


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
    houses = (ROOT / name for name in ("fusionlib", "paper"))
    return _hash([_measure(house, file_sha256, only=".py") for house in houses])


def _inputs(source: NotebookNode, parameters: dict, earlier: list[Path]) -> dict:
    """What a step depends on: images by name, size and time, other files by their content."""
    data = ROOT / "data"
    images = chosen_root(parameters["data_root"])
    weights = Path(parameters["weights"] or "")
    cells = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in source.cells]
    return {
        "notebook": _hash(cells),  # without outputs
        "parameters": parameters,
        "code": code_hash(),
        "data": _hash(_measure(data, file_sha256, skip=[data / "images", data / "downloads"])),
        "images": _hash(_measure(images) if images else {}),
        "weights": file_sha256(weights) if weights.is_file() else None,
        "others' weights and results": _hash([_measure(f()) for f in (weights_root, results_root)]),
        "environment": [sys.version, torch.__version__, numpy.__version__, torch.get_num_threads()],
        "earlier steps": {record.stem: _read_json(record).get("sha256") for record in earlier},
    }


def _reason_to_run(record: dict, inputs: dict, output: Path) -> str | None:
    if not record:
        return "no complete run so far"
    if record.get("fingerprint") != _hash(inputs):
        old = record.get("inputs", {})
        return f"changed: {', '.join(key for key in inputs if old.get(key) != inputs[key])}"
    if not output.is_file() or file_sha256(output) != record.get("sha256"):
        return f"{output.name} is gone or was changed"
    folder = Path(inputs["parameters"]["out_dir"])
    gone = [
        name
        for name, old in record["written"].items()
        if not (folder / name).is_file() or file_sha256(folder / name) != old
    ]
    return f"gone or changed: {', '.join(gone)}" if gone else None


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _measure(folder: Path, measure: Callable | None = None, skip=(), only: str = "") -> dict:
    """Hashes, or sizes and times, of the files below a folder, through links, not the hidden."""
    found, seen = {}, set()
    for here, folders, names in os.walk(folder, followlinks=True):
        fresh = os.path.realpath(here) not in seen
        seen.add(os.path.realpath(here))
        folders[:] = [
            n for n in folders if fresh and n[0] not in "._" and Path(here, n) not in skip
        ]
        for file in (Path(here, name) for name in names if fresh and name[0] != "."):
            if file.name.endswith(only) and file.is_file():  # not a link to nowhere
                name, stat = file.relative_to(folder).as_posix(), file.stat()
                found[name] = measure(file) if measure else [stat.st_size, stat.st_mtime_ns]
    return found


def _read_json(path: Path) -> dict:
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads(path.read_text(encoding="utf-8")))
    return {}


def _write_json(path: Path, value: dict) -> None:
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())
