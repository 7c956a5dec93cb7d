"""Where every published figure and table comes from: one ``provenance.json`` in each folder.

It names, for each file, its sha256 and the notebook that wrote it, and for each notebook the
command, the commit, the day, the weights, and the sha256 of what makes its results old when it
changes: its code cells but for their imports, and the weights, lists and values that it reads. The
library is named by the commit alone, so code that moves there makes nothing old.
"""

import datetime
import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import nbformat

from fusionlib.errors import FusionError
from fusionlib.files import REPOSITORY, file_sha256, write_atomically
from fusionlib.versions import commit
from paper import pipeline
from paper.run import Run

RECORD = "provenance.json"
FOLDERS = ("figures", "tables")
KINDS = ("synthetic", "reference")  # what is committed, and published, of `Run.label`
RENEW = "FUSIONLIB_DATA=synthetic python -m paper --publish"
WEIGHTS = "data/weights/full.safetensors"  # of all that is published
IMPORT = re.compile(r"^ *(?:from [\w.]+ )?import (?:\([^)]*\)|.*)\n?", re.M)

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

    What a notebook no longer writes is removed there. Figures with images of the datasets are
    never copied.

    Args:
        run: whose results.
        steps: stems of the notebooks that are up to date in ``run.out_dir``.
        repository: root of the checkout.

    Returns:
        Figures and tables that are in place, sorted.

    Raises:
        FusionError: the results are none of `KINDS`; a notebook has no record in
            ``run.out_dir/notebooks``; or code or results are no longer those of when it ran.
    """
    if run.label not in KINDS:
        raise FusionError(f"results of the kind {run.label!r} are not published, only {KINDS}")
    published, done = [], {stem: _step_record(run, stem) for stem in steps}
    for inside in (f"tables/{run.label}", "figures", f"figures/{run.label}"):
        target = repository / inside
        target.mkdir(parents=True, exist_ok=True)
        record = _read(target / RECORD)
        for name in [name for name, entry in record["files"].items() if entry["by"] in done]:
            del record["files"][name]
            (target / name).unlink(missing_ok=True)
        for stem, step in done.items():
            record["steps"].pop(stem, None)
            written = [run.out_dir / name for name in step["written"]]
            written = [path for path in written if path.parent == run.out_dir / inside]
            for path in written:
                published.append(shutil.copy(path, target / path.name))
                record["files"][path.name] = {"sha256": file_sha256(path), "by": stem}
            if written:
                record["steps"][stem] = _describe(run, stem, step, inside, repository)
        text = json.dumps({key: dict(sorted(record[key].items())) for key in record}, indent=1)
        write_atomically(target / RECORD, f"{text}\n".encode())
    return sorted(published)


def problems(repository: Path = REPOSITORY) -> list[str]:
    """What is wrong with the published files: older than an input, without record, changed.

    Returns:
        One line a problem, with the command that renews the file; empty if all is well.
    """
    found = []
    folders = [repository / top / kind for top in FOLDERS for kind in ("", *KINDS)]
    for folder in filter(Path.is_dir, folders):
        where = folder.relative_to(repository).as_posix()
        record = _read(folder / RECORD)
        here = {p.name for p in folder.iterdir() if p.is_file() and p.name[0] != "."} - {RECORD}
        renew = "see CONTRIBUTING.md" if folder.name == "reference" else RENEW
        for name in sorted(here - record["files"].keys()):
            found.append(f"{where}/{name} has no record: remove it, or renew it: {renew}")
        for name, entry in record["files"].items():
            if _hash_input(folder, name) != entry["sha256"]:
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
    record = pipeline.read_json(path)
    if not record:
        raise FusionError(f"{path}: no record of a complete run of {stem}")
    changed = [n for n, old in record["written"].items() if _hash_input(run.out_dir, n) != old]
    if record["inputs"]["code"] != pipeline.code_hash():  # the record names today's commit
        changed.append("fusionlib or paper")
    if changed:
        raise FusionError(
            f"{', '.join(changed)}: changed since {stem} ran, so nothing is published; give the "
            f"same command again"
        )
    return record


def _describe(run: Run, stem: str, record: dict, inside: str, repository: Path) -> dict:
    """How a step was run, and the sha256 of its code cells, weights, lists and values."""
    given, names = record["inputs"]["parameters"], {f"notebooks/{stem}.ipynb"}
    options = "".join(f" --{key} {given[key]}" for key in ("preset", "encoder", "device", "seed"))
    options += f" --weights {WEIGHTS}" if given["weights"] else ""
    if inside != "figures":  # drawings show no data
        names |= {WEIGHTS, *(f"data/splits/{name}.csv" for name in run.parts)}
        for pattern in DATA.get(stem, ()):
            found = repository.glob(pattern.format(label=run.label))
            names |= {path.relative_to(repository).as_posix() for path in found}
    return {
        "command": f"FUSIONLIB_DATA={'synthetic' if run.is_synthetic else '…'} "
        f"python -m paper{options} --only {stem} --publish",
        "commit": commit(repository) or "unknown (not a git checkout)",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "weights": {"file": Path(WEIGHTS).name, "sha256": file_sha256(run.weights)},
        "inputs": {name: _hash_input(repository, name) for name in sorted(names)},
    }


def _hash_input(repository: Path, name: str) -> str | None:
    """sha256 of a file, of a notebook that of its code cells but imports; None if it is gone."""
    path = repository / name
    if not path.is_file():
        return None
    if path.suffix != ".ipynb":
        return file_sha256(path)
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return hashlib.sha256(IMPORT.sub("", code).encode()).hexdigest()


def _read(path: Path) -> dict:
    return {"files": {}, "steps": {}} | pipeline.read_json(path)
