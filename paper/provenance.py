"""Where every published figure and table comes from: one ``provenance.json`` in each folder.

A record names, for each file, its sha256 and the notebook that wrote it, and for each notebook the
command, the commit, the weights, and the sha256 of what makes its results old when it changes: its
code cells, and the weights, lists and values that it reads. Code of the library is named by the
commit alone, so a line that moves there leaves every record valid. A record stays as it is while
its files and these inputs do, whatever the commit.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import nbformat

from fusionlib.errors import FusionError
from fusionlib.files import REPOSITORY, file_sha256, write_atomically
from fusionlib.versions import commit
from paper import pipeline
from paper.run import Run

RECORD = "provenance.json"
FOLDERS = ("figures", "tables")
UNCOMMITTED = ("datasets", "own", "quick")  # folders below these, which git ignores
RENEW = "FUSIONLIB_DATA=synthetic make paper"

# what a notebook reads beyond its weights and the lists of its datasets; {label}: see `Run.label`
_COMPARED = ("data/weights/letter.safetensors", "data/zooms.csv")
DATA = {
    "04_train": ("data/weights/*.json", "data/weights/*_log.csv"),
    "05_compare": (*_COMPARED, "data/paper/table[12].csv"),
    "06_generalise": (*_COMPARED, "data/paper/table3.csv"),
    "07_ablation": (
        "data/weights/full_seed*.safetensors", "data/weights/without_*.safetensors",
        "data/zooms.csv", "data/paper/table4.csv",
    ),
    "08_report": ("data/paper/table?.csv", "tables/{label}/*_values.csv"),
}  # fmt: skip


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
        target.mkdir(parents=True, exist_ok=True)
        owners = {
            path.name: stem
            for stem, record in written.items()
            for path in map(Path, record["written"])
            if path.parent == inside
        }
        for name in owners:
            write_atomically(target / name, (folder / name).read_bytes())
        _write_record(run, target, owners, written, repository)
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
    if record["inputs"]["code"] != pipeline.code_hash():  # the record names today's commit
        raise FusionError(
            f"fusionlib was changed while {stem} ran, so nothing is published; give the same "
            f"command again"
        )
    return record


def _write_record(run, target: Path, owners: Mapping, written: Mapping, repository: Path) -> None:
    """Bring the record of a folder up to date, and remove what its notebooks no longer write."""
    record = _read(target / RECORD)
    files, steps = record["files"], record["steps"]
    before = dict(files)
    for name in [n for n, entry in files.items() if entry["by"] in written and n not in owners]:
        (target / name).unlink(missing_ok=True)
        del files[name]
    files |= {n: {"sha256": file_sha256(target / n), "by": stem} for n, stem in owners.items()}
    for stem in dict.fromkeys(owners.values()):
        inputs = _inputs(run, stem, target, repository)
        old, new = ({n: e for n, e in f.items() if e["by"] == stem} for f in (before, files))
        if old != new or steps.get(stem, {}).get("inputs") != inputs:
            steps[stem] = _describe(run, stem, written[stem], repository) | {"inputs": inputs}
    used = {entry["by"] for entry in files.values()}
    if not used:
        return (target / RECORD).unlink(missing_ok=True)
    steps = {stem: step for stem, step in sorted(steps.items()) if stem in used}
    text = json.dumps({"files": dict(sorted(files.items())), "steps": steps}, indent=1) + "\n"
    write_atomically(target / RECORD, text.encode())


def _inputs(run: Run, stem: str, target: Path, repository: Path) -> dict[str, str | None]:
    """Path below the repository → sha256: code cells, weights, lists, values."""
    names = {f"notebooks/{stem}.ipynb"}
    if target.name != "figures":  # drawings show no data
        names |= {f"data/splits/{name}.csv" for name in run.parts}
        for pattern in DATA.get(stem, ()):
            found = repository.glob(pattern.format(label=run.label))
            names |= {path.relative_to(repository).as_posix() for path in found}
        if run.weights.resolve().is_relative_to(repository.resolve() / "data"):
            names.add(_shown(run.weights, repository))
    return {name: _hash_input(repository, name) for name in sorted(names)}


def _shown(path: Path, repository: Path) -> str:
    """A path below the repository; of any other its name, for folders are private."""
    path, root = path.resolve(), repository.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _describe(run: Run, stem: str, record: dict, repository: Path) -> dict:
    """How a step was run."""
    given = record["inputs"]["parameters"]
    options = "".join(f" --{key} {given[key]}" for key in ("preset", "encoder", "device", "seed"))
    if given["weights"]:
        options += f" --weights {_shown(run.weights, repository)}"
    data = "FUSIONLIB_DATA=synthetic" if run.is_synthetic else "FUSIONLIB_DATA=…"
    return {
        "command": f"{data} python -m paper{options} --only {stem}",
        "commit": commit(repository) or "unknown (not a git checkout)",
        "weights": {"file": run.weights.name, "sha256": file_sha256(run.weights)},
    }


def _hash_input(repository: Path, name: str) -> str | None:
    """sha256 of a file, of a notebook that of its code cells; None if it is gone."""
    path = repository / name
    if not path.is_file():
        return None
    if path.suffix != ".ipynb":
        return file_sha256(path)
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()


def _folders(repository: Path) -> list[Path]:
    """Folders whose files are committed."""
    tops = [repository / name for name in FOLDERS if (repository / name).is_dir()]
    below = [p for top in tops for p in sorted(top.iterdir()) if p.is_dir()]
    return [folder for folder in tops + below if folder.name not in UNCOMMITTED]


def _read(path: Path) -> dict:
    """A record, or an empty one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"files": dict(found["files"]), "steps": dict(found["steps"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"files": {}, "steps": {}}
