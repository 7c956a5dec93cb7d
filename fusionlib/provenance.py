"""Where every published figure and table comes from: one ``provenance.json`` in each folder.

A record holds what determines a file: the code cells of its notebook, the modules of fusionlib
that these import, data and weights, each with its sha256. Comments, docstrings and markdown do not
count, nor do modules that cannot change what is in the file, so that most edits leave most records
valid. A record stays as it is while its inputs and its files do, whatever the commit.
"""

import ast
import hashlib
import io
import json
import tokenize
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import nbformat

from fusionlib import pipeline
from fusionlib.errors import FusionError
from fusionlib.files import REPOSITORY, file_sha256, write_atomically
from fusionlib.run import Run
from fusionlib.versions import commit

RECORD = "provenance.json"
FOLDERS = ("figures", "tables")
UNCOMMITTED = ("datasets", "own", "quick")  # folders below these, which git ignores
RENEW = "FUSIONLIB_DATA=synthetic make paper"
VERSIONS = ("numpy", "scipy", "scikit-image", "pillow", "pandas", "matplotlib", "torch", "timm")

# what a notebook reads below data/ beyond its weights and the splits of its datasets
DATA = {
    "04_train": ("weights/*.json", "weights/*_log.csv", "trials/*.csv"),
    "05_compare": ("paper/table[12].csv", "zooms.csv"),
    "06_generalise": ("paper/table3.csv", "zooms.csv"),
    "07_ablation": (
        "paper/table4.csv",
        "zooms.csv",
        "weights/base*.safetensors",
        "weights/without_*.safetensors",
    ),
    "08_report": ("paper/table?.csv",),
}
# these find, fetch and check files, say what is wrong, or measure what is not published
NEUTRAL = {
    "__init__", "archives", "cost", "download", "errors", "files", "prepare", "sources", "versions",
}  # fmt: skip
DRAWS_SCENES = {"props", "samples", "scenery"}  # determine nothing when there are real images
DRAWS_FIGURES = {"diagrams", "figures", "teaching"}


def publish(run: Run, steps: Iterable[str], repository: Path = REPOSITORY) -> list[Path]:
    """Copy what notebooks wrote to ``figures/`` and ``tables/`` of the repository, with records.

    Files stand in a folder named after data and weights (`Run.label`), so that a quick look or
    weights of one's own never replace the numbers of the reference run; images of the datasets go
    to ``figures/datasets/``, drawings directly to ``figures/``. What a notebook no longer writes is
    removed there.

    Args:
        run: whose results.
        steps: stems of the notebooks that are up to date in ``run.out_dir``.
        repository: root of the checkout.

    Returns:
        Figures and tables that are in place, sorted.

    Raises:
        FusionError: a notebook has no record in ``run.out_dir/notebooks``, or the code is no longer
            that of when it ran.
    """
    published = []
    written = {stem: _step_record(run, stem) for stem in steps}
    for folder in (run.tables(), run.drawings(), run.figures(), run.image_figures()):
        inside = folder.relative_to(run.out_dir)
        target = repository / inside
        owners = {
            path.name: stem
            for stem, record in written.items()
            for path in map(Path, record["written"])
            if path.parent == inside
        }
        target.mkdir(parents=True, exist_ok=True)
        for name in owners:
            write_atomically(target / name, (folder / name).read_bytes())
        _write_records(run, target, owners, written, repository)
        published += [target / name for name in owners]
    return sorted(set(published))


def problems(repository: Path = REPOSITORY) -> list[str]:
    """What is wrong with the published files: older than an input, without record, changed.

    Args:
        repository: root of the checkout.

    Returns:
        One line a problem, with the command that renews the file; empty if all is well.
    """
    found = []
    for folder in _folders(repository):
        where = folder.relative_to(repository).as_posix()
        record = _read(folder / RECORD)
        here = {p.name for p in folder.iterdir() if p.is_file() and p.name[0] != "."} - {RECORD}
        renew = "see CONTRIBUTING.md" if folder.name == "reference" else RENEW
        for name in sorted(here - record["files"].keys()):
            found.append(f"{where}/{name} has no record: remove it, or renew it: {renew}")
        for name, entry in sorted(record["files"].items()):
            if name not in here:
                found.append(f"{where}/{name} is recorded but gone; renew: {renew}")
            elif file_sha256(folder / name) != entry["sha256"]:
                found.append(f"{where}/{name} is not what {entry['by']} wrote; renew: {renew}")
        for stem, step in record["steps"].items():
            changed = [p for p, old in step["inputs"].items() if _hash_input(repository, p) != old]
            if changed:
                command = step["command"] if folder.name == "reference" else renew
                older = f"{where}: what {stem} wrote is older than {', '.join(changed)}"
                found.append(f"{older}; renew: {command}")
    return found


def code_hash(source: str) -> str:
    """sha256 of Python source without comments, docstrings, blank lines and trailing blanks."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            lines[text.lineno - 1 : text.end_lineno] = [""] * (text.end_lineno - text.lineno + 1)
    kept = "\n".join(line.rstrip() for line in lines if line.strip())
    return hashlib.sha256(kept.encode()).hexdigest()


def imported_modules(source: str, package: Path) -> dict[str, Path]:
    """The modules of fusionlib that Python source imports, directly or through each other.

    Args:
        source: Python.
        package: folder of fusionlib.

    Returns:
        Dotted name below the package → file.
    """
    found: dict[str, Path] = {}
    waiting = [source]
    while waiting:
        for name in sorted(_named_modules(waiting.pop())):
            parts = name.split(".")
            for depth in range(1, len(parts) + 1):  # importing a.b runs a, too
                path = package.joinpath(*parts[:depth])
                path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
                key = ".".join(parts[:depth])
                if path.is_file() and key not in found:
                    found[key] = path
                    waiting.append(path.read_text(encoding="utf-8"))
    return found


def _named_modules(source: str) -> set[str]:
    """Candidates: ``from fusionlib.a import b`` may mean the module a or the module a.b."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name.removeprefix("fusionlib.") for name in names if name.startswith("fusionlib.")}


def _step_record(run: Run, stem: str) -> dict:
    path = run.out_dir / "notebooks" / f"{stem}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FusionError(f"{path}: no record of a complete run of {stem} ({error})") from error
    changed = [n for n, old in record["written"].items() if file_sha256(run.out_dir / n) != old]
    if changed:
        raise FusionError(
            f"{', '.join(changed)}: changed since {stem} wrote it; give the same command again"
        )
    if record["inputs"]["fusionlib"] != pipeline.code_hash():
        raise FusionError(
            f"fusionlib was changed while {stem} ran, so nothing is published; give the same "
            f"command again"
        )
    return record


def _write_records(run, target: Path, owners: Mapping, written: Mapping, repository: Path) -> None:
    """Bring the record of a folder up to date, and remove what its notebooks no longer write."""
    record = _read(target / RECORD)
    for name, entry in list(record["files"].items()):
        if entry["by"] in written and name not in owners:
            (target / name).unlink(missing_ok=True)
            del record["files"][name]
    hashes = {name: file_sha256(target / name) for name in owners}
    for stem in dict.fromkeys(owners.values()):
        mine = {name: hashes[name] for name, owner in owners.items() if owner == stem}
        old = {n: e["sha256"] for n, e in record["files"].items() if e["by"] == stem}
        inputs = _inputs(run, stem, target, repository)
        if old != mine or record["steps"].get(stem, {}).get("inputs") != inputs:
            record["steps"][stem] = _describe(run, stem, written[stem], repository) | {
                "inputs": inputs
            }
        record["files"] |= {n: {"sha256": digest, "by": stem} for n, digest in mine.items()}
    used = {entry["by"] for entry in record["files"].values()}
    sorted_record = {
        "files": dict(sorted(record["files"].items())),
        "steps": {k: v for k, v in sorted(record["steps"].items()) if k in used},
    }
    if used:
        write_atomically(target / RECORD, (json.dumps(sorted_record, indent=1) + "\n").encode())
    else:
        (target / RECORD).unlink(missing_ok=True)


def _inputs(run: Run, stem: str, target: Path, repository: Path) -> dict[str, str]:
    """Path below the repository → sha256, of all that determines what a notebook writes there."""
    notebook = repository / "notebooks" / f"{stem}.ipynb"
    without = set(NEUTRAL)
    shows_scenes = run.is_synthetic and target.name != "figures"  # drawings show no data
    without |= set() if shows_scenes else DRAWS_SCENES
    without |= DRAWS_FIGURES if target.parent.name == "tables" else set()
    modules = imported_modules(_code_cells(notebook), repository / "fusionlib")
    paths = [notebook, *(p for name, p in modules.items() if name not in without)]
    if target.name != "figures":
        data = repository / "data"
        paths += [data / "splits" / f"{name}.csv" for name in run.parts]
        paths += [p for pattern in DATA.get(stem, ()) for p in data.glob(pattern)]
        paths += [run.weights] if run.weights.resolve().is_relative_to(data) else []
    if stem == "08_report":
        paths += (repository / "tables" / run.label).glob("**/*_values.csv")
    names = sorted({p.resolve().relative_to(repository.resolve()).as_posix() for p in paths})
    return {name: _hash_input(repository, name) for name in names}


def _describe(run: Run, stem: str, record: dict, repository: Path) -> dict:
    """How a step was run, without anything that is private to this machine."""
    given = record["inputs"]["parameters"]
    parameters = {key: given[key] for key in ("preset", "encoder", "device", "seed")}
    options = "".join(f" --{key} {value}" for key, value in parameters.items())
    weights = run.weights.resolve()
    if given["weights"]:
        inside = weights.is_relative_to(repository.resolve())
        options += (
            f" --weights {weights.relative_to(repository.resolve()) if inside else weights.name}"
        )
    data = "FUSIONLIB_DATA=synthetic " if run.is_synthetic else "FUSIONLIB_DATA=… "
    python, _, _, threads = record["inputs"]["environment"]
    return {
        "command": f"{data}python -m fusionlib paper{options} --only {stem}",
        "parameters": parameters,
        "data": run.data_title,
        "weights": {"file": run.weights.name, "sha256": file_sha256(run.weights)},
        "commit": commit(repository) or "unknown (not a git checkout)",
        "versions": {"python": python.split()[0]} | {name: version(name) for name in VERSIONS},
        "threads": threads,
    }


def _hash_input(repository: Path, name: str) -> str | None:
    path = repository / name
    if not path.is_file():
        return None
    if path.suffix == ".ipynb":
        return code_hash(_code_cells(path))
    if path.suffix == ".py":
        return code_hash(path.read_text(encoding="utf-8"))
    return file_sha256(path)


def _code_cells(notebook: Path) -> str:
    """Source of the code cells, of which none has magics."""
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n".join(cell.source for cell in cells if cell.cell_type == "code")


def _folders(repository: Path) -> list[Path]:
    """Folders whose files are committed."""
    tops = [repository / name for name in FOLDERS]
    below = [p for top in tops if top.is_dir() for p in sorted(top.iterdir()) if p.is_dir()]
    chosen = [*(top for top in tops if top.is_dir()), *below]
    return [folder for folder in chosen if folder.name not in UNCOMMITTED]


def _read(path: Path) -> dict:
    """A record, or an empty one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"files": dict(found["files"]), "steps": dict(found["steps"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"files": {}, "steps": {}}
