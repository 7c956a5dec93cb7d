"""``fusionlib evaluate``"""

import shutil

import numpy as np
import pytest
from PIL import Image

from fusionlib.datasets import SCENES, SYNTHETIC
from fusionlib.evaluation import read_values
from fusionlib.images import save_image

# the pairs of these tests are made here, so no list has them
TNO = ("--dataset", "TNO", "--jobs", "1", "--allow-unlisted")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A data root with four TNO pairs (all of them test pairs), and their average as a result."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        ir, vi = rng.integers(0, 256, (2, 44, 52)).astype(np.uint8)
        for part, image in (("ir", ir), ("vi", vi)):
            save_image(tmp_path / "data" / "TNO" / part / f"{name}.png", image)
        save_image(tmp_path / "mine" / f"{name}.png", ((ir.astype(int) + vi) // 2).astype(np.uint8))
    monkeypatch.setenv("FUSIONLIB_DATA", str(tmp_path / "data"))
    return tmp_path / "mine"


def evaluated(run, results, *more):
    return run("evaluate", results, *TNO, *more)


def test_evaluate_prints_means_with_intervals_and_writes_each_value(results, tmp_path, run):
    csv = tmp_path / "values.csv"
    status, said, _ = evaluated(run, results, "-o", csv, "--metrics", "ag", "scd")
    assert status == 0 and "mine*, TNO, 4 of 4 pairs" in said
    values = read_values(csv)
    assert len(values) == 8 and set(values["method"]) == {"mine"}
    mean = values.loc[values["metric"] == "ag", "value"].mean()
    assert f"Q_AG ↑   {mean:9.4f}  [" in said and "Q_CV" not in said
    vif, both = (
        evaluated(run, results, "--metrics", "vif", "--protocol", protocol)[1].splitlines()[1]
        for protocol in ("ours", "vif_sum")
    )
    assert float(both.split()[2]) == pytest.approx(2 * float(vif.split()[2]), abs=2e-4)
    for name in ("b", "c", "d"):
        (tmp_path / "data" / "TNO" / "ir" / f"{name}.png").unlink()
        (tmp_path / "data" / "TNO" / "vi" / f"{name}.png").unlink()
    status, said, _ = evaluated(run, results, "--metrics", "ag")  # one value has no interval
    assert status == 0 and "Q_AG" in said and "nan" not in said and "[" not in said


def test_r47_evaluate_names_what_is_missing_or_marks_it(results, run):
    (results / "c.png").unlink()
    status, _, told = evaluated(run, results)
    assert status == 2 and "mine/TNO/c" in told
    status, said, _ = evaluated(run, results, "--allow-missing", "--metrics", "ag")
    assert status == 0 and "1 of 4 values undefined" in said


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--metrics", "psnr"), "'psnr'"),
        (("--protocol", "theirs"), "'theirs'"),
        (("--dataset", "MSRS"), "has no MSRS"),
        (("--dataset", "TNO", "--pairs", "a", "b"), "--dataset TNO is a dataset of the paper"),
    ],
)
def test_evaluate_explains_what_it_does_not_know(results, run, more, told):
    status, _, said = evaluated(run, results, *more)
    assert status == 2 and told in said


def test_r69_own_pairs_need_no_list_and_their_folder_no_option(results, tmp_path, run):
    folder = (tmp_path / "data" / "TNO").rename(tmp_path / "data" / "MyCams")
    fused = results.rename(tmp_path / "MyCams")
    (tmp_path / "mine").mkdir()
    fused = fused.rename(tmp_path / "mine" / "MyCams")
    own = ("--dataset", "MyCams"), ("--pairs", folder / "ir", folder / "vi")
    told = {run("evaluate", fused, *pairs, "--metrics", "ag", "--jobs", 1)[:2] for pairs in own}
    ((status, said),) = told
    assert status == 0 and said.startswith("mine, MyCams, 4 of 4 pairs, protocol ours\nyour own")
    assert "missing" not in said and "*" not in said
    status, _, told = run("evaluate", fused, *own[0], "--part", "test")
    assert status == 2 and "no list divides MyCams" in told
    (tmp_path / "list.csv").write_text(f"ir,vi\n{folder}/ir/a.png,{folder}/vi/a.png\n")
    status, said, _ = run("evaluate", fused, "--pairs", tmp_path / "list.csv", "--metrics", "ag")
    assert status == 0 and said.startswith("mine, list, 1 of 1 pair")  # of the four images
    assert run("evaluate", fused)[0] == 2


def test_r74_a_folder_named_after_its_dataset_gives_the_method_of_its_parent_s_name(
    results, tmp_path, run
):
    csv = tmp_path / "values.csv"
    for name in ("one", "two"):
        target = tmp_path / "results" / name / "TNO"
        shutil.copytree(results, target)
        assert evaluated(run, target, "-o", csv, "--metrics", "ag")[0] == 0
    assert set(read_values(csv)["method"]) == {"one", "two"}
    others = evaluated(run, results, "-o", csv, "--metrics", "scd", "--method", "one")
    assert others[0] == 2 and "results/one" in others[2] and "--method" in others[2]


def test_r04_r49_means_over_what_is_left_state_both_numbers(results, tmp_path, run):
    (results / "b.png").write_text("text")
    csv = tmp_path / "values.csv"
    status, _, told = evaluated(run, results, "-o", csv)
    assert status == 2 and "b.png" in told
    status, said, _ = evaluated(run, results, "--on-bad", "skip", "-o", csv, "--metrics", "ag")
    assert status == 0 and "3 of 4 pairs" in said and "left out: 1 damaged: b" in said
    values = read_values(csv)  # with what the first call had measured
    assert sorted(values[values["metric"] == "ag"]["name"]) == ["a", "c", "d"]
    assert "b" not in set(values["name"])
    assert ",b,damaged," in (tmp_path / "values.issues.csv").read_text(encoding="utf-8")


def test_r22_images_that_are_not_listed_are_refused_or_marked(results, tmp_path, run):
    arguments = ("evaluate", results, "--dataset", "TNO", "--jobs", "1", "--metrics", "ag")
    status, _, told = run(*arguments)
    assert status == 2 and "4 unlisted: a, b, c, d; 55 missing" in told
    csv = tmp_path / "values.csv"
    status, said, _ = run(*arguments, "--allow-unlisted", "-o", csv)
    assert status == 0 and "mine*, TNO" in said
    assert "* not the images of data/splits/TNO.csv: 4 unlisted" in said
    assert "TNO,a,unlisted," in (tmp_path / "values.issues.csv").read_text(encoding="utf-8")


def test_r22_the_listed_images_are_measured_without_a_mark(tmp_path, run):
    root = shutil.copytree(SCENES, tmp_path / "scenes")
    arguments = ("evaluate", root / "ir", "--dataset", SYNTHETIC, "--data-root", root)
    arguments += ("--metrics", "ag", "--jobs", "1")
    status, said, told = run(*arguments)
    assert status == 0, told
    assert "ir, Synthetic, 8 of 8 pairs" in said and "*" not in said
    path = root / "vi" / "dusk_camp.png"
    Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    status, _, told = run(*arguments)
    assert status == 2 and "1 changed: dusk_camp. Numbers of other images" in told
