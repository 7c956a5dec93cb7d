"""Row 58: what did not change is not run again, what did is; and which steps are one run."""

import os
from pathlib import Path

import pytest
from test_pipeline import OUTPUTS, statuses, write_notebook

from paper import pipeline
from paper.pipeline import complete_steps, run_paper

WRITE_VALUE = """\
from pathlib import Path
Path(out_dir, "tables").mkdir(parents=True, exist_ok=True)
Path(out_dir, "tables", "value.csv").write_text(f"seed,{seed}\\n", encoding="utf-8")
"""


def test_r58_second_run_skips_and_force_repeats_byte_for_byte(checkout, capsys):
    write_notebook(checkout, "00_data", WRITE_VALUE)
    (first,) = run_paper(seed=7)
    written = Path("runs/quick/tables/value.csv").read_bytes()
    assert first.status == "ran" and written == b"seed,7\n"
    capsys.readouterr()
    (second,) = run_paper(seed=7)
    assert (second.status, second.seconds) == ("skipped", first.seconds)
    assert capsys.readouterr().out == "00_data: skipped\n"
    assert statuses(run_paper(seed=7, force=True)) == ["ran"]
    assert Path("runs/quick/tables/value.csv").read_bytes() == written


CHANGES = {
    "other image": (lambda r: (r / "data/images/TNO/ir/01.png").write_text("other"), "images"),
    "image time": (lambda r: os.utime(r / "data/images/TNO/ir/01.png", (1, 1)), "images"),
    "list": (lambda r: (r / "data/splits/TNO.csv").write_text("name\n02\n"), "data"),
    "code": (lambda r: (r / "fusionlib/__init__.py").write_text("HERE = 2\n"), "code"),
    "cell": (lambda r: write_notebook(r, "00_data", "1 + 2"), "notebook"),
    "weights": (lambda r: (r / "own.safetensors").write_text("2"), "weights"),
    "output": (lambda r: (OUTPUTS / "00_data.ipynb").write_text("{}"), "notebooks/00_data.ipynb"),
    "lost table": (lambda r: Path("runs/quick/00_data.csv").unlink(), "00_data.csv"),
    "lost record": (lambda r: (OUTPUTS / "00_data.json").unlink(), "no complete run so far"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_r58_change_of_a_dependency_repeats_this_step_and_later_ones(
    checkout, no_kernels, capsys, change
):
    spoil, reason = CHANGES[change]
    given = {"weights": checkout / "own.safetensors"}
    write_notebook(checkout, "00_data", "1 + 1")
    write_notebook(checkout, "01_network", "1 + 1")
    assert statuses(run_paper(**given)) == ["ran", "ran"]
    assert statuses(run_paper(**given)) == ["skipped", "skipped"]
    capsys.readouterr()
    spoil(checkout)
    assert statuses(run_paper(**given)) == ["ran", "ran"]
    assert f"{reason})\n01" in capsys.readouterr().out.replace("00_data: ran (0.0 s)\n", "")
    assert statuses(run_paper(**given)) == ["skipped", "skipped"]
    assert no_kernels == ["00_data", "01_network"] * 2


def test_r58_parameters_threads_and_images_that_are_used_count(checkout, no_kernels, monkeypatch):
    write_notebook(checkout, "00_data")
    assert statuses(run_paper()) == ["ran"]
    assert statuses(run_paper(seed=1)) == ["ran"]
    monkeypatch.setattr(pipeline.torch, "get_num_threads", lambda: 99)
    assert statuses(run_paper(seed=1)) == ["ran"]
    assert statuses(run_paper(data_root="synthetic")) == ["ran"]
    CHANGES["other image"][0](checkout)
    assert statuses(run_paper(data_root="synthetic")) == ["skipped"]


def test_one_step_is_completed_by_the_others_of_the_same_run(checkout, no_kernels):
    for stem in ("00_data", "01_network", "02_cii"):
        write_notebook(checkout, stem)
    assert len(complete_steps(run_paper(only=["01_network"]))) == 1
    earlier = run_paper()
    write_notebook(checkout, "02_cii", "1 + 1")  # older code is complete all the same
    first, _, last = complete_steps(run_paper(only=["01_network"], force=True))
    assert [first.name, last.name] == ["00_data", "02_cii"]
    assert first.seconds == earlier[0].seconds and first.output.is_file()
    assert statuses(run_paper(only=["02_cii"])) == ["ran"]  # after a step that was repeated
    assert len(complete_steps(run_paper(only=["01_network"], seed=1))) == 1
    CHANGES["other image"][0](checkout)
    assert len(complete_steps(run_paper(only=["01_network"]))) == 1
