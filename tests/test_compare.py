"""Who takes part, folders of images made elsewhere, rows, differences and scenes."""

import numpy as np
import pandas as pd
import pytest

from fusionlib import compare, evaluation, statistics, tables
from fusionlib.baselines.reported import COLUMNS, ELSEWHERE
from fusionlib.compare import Entry
from fusionlib.datasets import SYNTHETIC, Pair
from fusionlib.errors import DatasetError, ImageError, MetricError
from fusionlib.figures import read_zooms
from fusionlib.images import replace_luma, save_image
from fusionlib.metrics import PAPER
from fusionlib.paper_tables import CELLS, MEASURED, REPORTED, to_markdown
from fusionlib.run import Run
from fusionlib.weights import SHIPPED

NAMES = ("x", "y")
SHAPE = (48, 64)  # enough for every metric


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """No weights of others, and a folder of results without anything in it."""
    monkeypatch.setenv("FUSIONLIB_WEIGHTS", str(tmp_path / "published"))
    monkeypatch.setenv("FUSIONLIB_RESULTS", str(tmp_path / "given"))
    (tmp_path / "given").mkdir()


def image(seed, shape=SHAPE):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.fixture
def tests(tmp_path):
    """Two pairs of each of two datasets."""
    found = {}
    for i, dataset in enumerate(("MSRS", "TNO")):
        for j, name in enumerate(NAMES):
            pair = Pair(dataset, name, *(tmp_path / dataset / k / f"{name}.png" for k in "iv"))
            save_image(pair.ir, image(10 * i + j))
            save_image(pair.vi, image(10 * i + j + 5, (*SHAPE, 3)))
            found.setdefault(dataset, []).append(pair)
    return found


def make_run(tmp_path, preset="quick", parts=()):
    parts = {name: {"train": [], "val": [], "test": pairs} for name, pairs in dict(parts).items()}
    return Run(preset, tmp_path, parts, "embedded", SHIPPED, tmp_path / "run", "cpu", 0)


def given(tmp_path, method="CHITNet", dataset="MSRS", names=NAMES, shape=SHAPE):
    for i, name in enumerate(names):
        save_image(tmp_path / "given" / method / dataset / f"{name}.png", image(100 + i, shape))


def mean(ir, vi):
    return (ir + vi.mean(axis=2)) / 2


# ---- who takes part


def test_methods_without_weights_say_why_and_quick_leaves_the_slow_ones(tmp_path):
    entries, absent = compare.find_entries(make_run(tmp_path), mean)
    assert list(entries) == ["ours", "average", "maximum", "laplacian"]
    assert absent["LRRNet"] == "not run in the preset quick"
    assert "no such file" in absent["DATFuse"]
    assert set(ELSEWHERE) < set(absent)
    assert str(tmp_path / "given" / "CHITNet") in absent["CHITNet"]
    absent = compare.find_entries(make_run(tmp_path, "paper"), mean)[1]
    assert "no such file" in absent["LRRNet"]


def test_tables_say_who_is_missing_without_paths_of_this_machine(tmp_path):
    _, absent = compare.find_entries(make_run(tmp_path), mean)
    told = compare.describe_absent(absent)
    assert str(tmp_path) not in told
    assert "LRRNet, SeAFusion, IFCNN, DIDFuse, TarDAL (not run in the preset quick)" in told
    assert "DATFuse (its published weights are not on this machine" in told
    assert "CHITNet (its weights were never published)" in told
    assert compare.describe_absent({}) == ""
    assert compare.describe_datasets(["LLVIP", "MSRS"]) == "LLVIP and MSRS"
    assert compare.describe_datasets([SYNTHETIC]) == "drawn synthetic scenes"


def test_a_folder_of_images_takes_part_in_the_place_of_its_method(tmp_path):
    for method in ("zzz", "MLFusion", "DATFuse", "average", "SeAFusion"):
        given(tmp_path, method)
    entries, absent = compare.find_entries(make_run(tmp_path), mean)
    assert [(e.name, e.group) for e in entries.values()] == [
        ("DATFuse", "paper"), ("MLFusion", "paper"), ("ours", "paper"), ("SeAFusion", "additional"),
        ("zzz", "additional"), ("average", "classical"), ("maximum", "classical"),
        ("laplacian", "classical"),
    ]  # fmt: skip
    assert entries["average"].fuse is None and entries["maximum"].fuse is not None
    assert entries["average"].title == "Average"
    assert not {"DATFuse", "MLFusion"} & set(absent)


def test_datasets_that_are_there_are_used_and_synthetic_scenes_only_without_any(tmp_path, tests):
    run = make_run(tmp_path, parts=tests)
    assert compare.find_tests(run, ["LLVIP", "MSRS"]) == {"MSRS": tests["MSRS"]}
    drawn = compare.find_tests(run, ["LLVIP"])
    assert list(drawn) == [SYNTHETIC] and len(drawn[SYNTHETIC]) == 8
    assert all(pair.vi.is_file() for pair in drawn[SYNTHETIC])


# ---- images made elsewhere


def test_r47_too_few_images_mark_the_row_and_extra_ones_do_not_count(tmp_path, tests):
    given(tmp_path, names=("x", "stranger"))
    entries, _ = compare.find_entries(make_run(tmp_path), mean)
    remarks = compare.check_results(entries, tests)
    assert remarks == [
        "CHITNet, MSRS: 1 of 2 images are missing (y), so there is no mean",
        "CHITNet, MSRS: 1 images not asked for, ignored",
        "CHITNet: no folder TNO, so no measured row there",
    ]
    assert compare.fuse_all(entries, tests) == 4 * 4
    values = compare.measure(entries, tests, tmp_path / "v.csv")
    theirs = values[values["method"] == "CHITNet"]
    assert set(theirs["dataset"]) == {"MSRS"}
    assert set(theirs["name"]) == {"x", "y"}
    assert theirs.loc[theirs["name"] == "y", "reason"].eq(evaluation.NO_IMAGE).all()
    assert theirs.loc[theirs["name"] == "x", "value"].notna().all()
    assert len(tables.read_values(tmp_path / "v.csv")) == len(values)
    undefined = tables.mean_table(values).attrs["undefined"]
    assert "MSRS, CHITNet, ag: 1 of 2 values undefined (there is no fused image)" in undefined
    summary = statistics.summarise(values)
    assert summary[summary["dataset"] == "MSRS"]["rank"].isna().all()
    complete = compare.drop_incomplete(values)
    assert set(complete["method"]) == set(values["method"]) - {"CHITNet"}
    ranked = statistics.summarise(complete).query("dataset == 'MSRS' and metric == 'ag'")
    assert ranked["rank"].sum() == 1 + 2 + 3 + 4
    cells = compare.table_cells(summary, empty(), entries, list(tests))
    assert cells[cells["method"] == "CHITNet"]["value"].isna().all()
    text = to_markdown(compare.compose_table(cells, 1, "c", entries))
    assert "| CHITNet | measured | 2 | – | – | – | – | – | – |" in text


def test_a_complete_folder_becomes_a_measured_row(tmp_path, tests):
    given(tmp_path)
    entries, _ = compare.find_entries(make_run(tmp_path), mean)
    assert compare.check_results(entries, {"MSRS": tests["MSRS"]}) == []
    compare.fuse_all(entries, {"MSRS": tests["MSRS"]})
    values = compare.measure(entries, {"MSRS": tests["MSRS"]}, tmp_path / "v.csv")
    direct = evaluation.evaluate({"m": tmp_path / "given" / "CHITNet"}, {"MSRS": tests["MSRS"]})
    assert values.loc[values["method"] == "CHITNet", "value"].tolist() == direct["value"].tolist()


def test_an_image_of_another_size_is_named_before_anything_runs(tmp_path, tests):
    given(tmp_path, shape=(48, 60))
    entries, _ = compare.find_entries(make_run(tmp_path), mean)
    with pytest.raises(MetricError, match=r"x\.png is 60×48, but its sources are 64×48"):
        compare.check_results(entries, tests)


def test_a_file_that_is_no_image_is_named(tmp_path, tests):
    given(tmp_path)
    (tmp_path / "given" / "CHITNet" / "MSRS" / "y.png").write_bytes(b"nothing")
    entries, _ = compare.find_entries(make_run(tmp_path), mean)
    with pytest.raises(ImageError, match=r"y\.png"):
        compare.check_results(entries, tests)


# ---- rows


def empty():
    return pd.DataFrame([], columns=COLUMNS)


def reported(*lines):
    rows = [(d, m, *[v] * len(PAPER), "source") for d, m, v in lines]
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(*lines):
    rows = [(d, k, m, 7, v, v - 0.125, v + 0.25, 1.0, 0.5, "") for d, m, v in lines for k in PAPER]
    columns = ["dataset", "metric", "method", "n", "mean", "low", "high", "rank", "p", "note"]
    return pd.DataFrame(rows, columns=columns)


def entry(tmp_path, name, group):
    return Entry(name, name, group, tmp_path / "run" / name, mean)


def test_each_method_has_its_reported_line_above_its_measured_one(tmp_path):
    groups = {"B": "paper", "ours": "paper", "C": "additional", "D": "classical"}
    entries = {name: entry(tmp_path, name, group) for name, group in groups.items()}
    told = reported(("MSRS", "A", np.nan), ("MSRS", "ours", 1.0), ("MSRS", "B", 0.5))
    found = summary(*(("MSRS", m, 0.5) for m in "DCB"), ("MSRS", "ours", 0.75))
    cells = compare.table_cells(found, told, entries, ["MSRS", "LLVIP"])
    rows = cells.drop_duplicates(["method", "row"])[["method", "row", "group"]]
    assert rows.to_numpy().tolist() == [
        ["A", REPORTED, "paper"],
        ["B", REPORTED, "paper"],
        ["B", MEASURED, "paper"],
        ["ours", REPORTED, "paper"],
        ["ours", MEASURED, "paper"],
        ["C", MEASURED, "additional"],
        ["D", MEASURED, "classical"],
    ]
    assert list(cells.columns) == CELLS and set(cells["metric"]) == set(PAPER)
    assert cells.loc[cells["row"] == MEASURED, "n"].eq(7).all()
    differences = compare.find_differences(cells).xs("ag", level="metric")
    assert differences.index.tolist() == [("MSRS", "B"), ("MSRS", "ours")]
    ours = differences.loc[("MSRS", "ours")]
    assert ours[["reported", "measured", "low", "high", "difference", "percent"]].tolist() == [
        1.0, 0.75, 0.625, 1.0, -0.25, -25.0,
    ]  # fmt: skip
    assert differences["inside"].tolist() == [True, True]


def test_without_reported_numbers_there_are_no_differences_and_no_words_about_them(tmp_path):
    entries = {"ours": entry(tmp_path, "ours", "paper")}
    cells = compare.table_cells(summary((SYNTHETIC, "ours", 0.5)), empty(), entries, [SYNTHETIC])
    assert not len(compare.find_differences(cells))
    below = compare.compose_table(cells, 1, "c", entries, ["last"]).below()
    assert below[-1] == "last" and not any("eported" in note for note in below)


def test_the_doubt_about_ivfwsr_stands_below_the_table_that_has_it(tmp_path):
    entries = {"ours": entry(tmp_path, "ours", "paper")}
    told = reported(("MSRS", "IVFWSR", np.nan), ("MSRS", "ours", 1.0))
    cells = compare.table_cells(summary(("MSRS", "ours", 0.5)), told, entries, ["MSRS"])
    made = compare.compose_table(cells, 1, "c", entries)
    assert made.below()[0].startswith("(a) The paper's tables say IVFWSR")
    assert any("not available here" in note for note in made.below())
    assert "| IVFWSR (a) |" in to_markdown(made)


# ---- scenes


def write_zooms(path, *lines):
    path.write_text("\n".join(["figure,dataset,name,x,y,width,height", *lines, ""]))
    return path


def test_scenes_are_those_chosen_ours_last_and_in_colour(tmp_path, tests, monkeypatch):
    zooms = write_zooms(tmp_path / "z.csv", "4,MSRS,y,1,2,8,6", "4,MSRS,y,3,4,8,6")
    monkeypatch.setattr(compare, "read_zooms", lambda figure: read_zooms(figure, zooms))
    entries, _ = compare.find_entries(make_run(tmp_path), mean)
    compare.fuse_all(entries, tests)
    scenes, columns = compare.find_scenes(entries, tests, 4)
    assert columns == ["infrared", "visible", "Average", "Maximum", "Laplacian pyramid", "ours"]
    assert [scene.label for scene in scenes] == ["MSRS\ny", "TNO\nx", "TNO\ny"]
    assert [len(scene.zooms) for scene in scenes] == [2, 0, 0]
    first = scenes[0].images
    assert first[0].shape == SHAPE and all(i.shape == (*SHAPE, 3) for i in first[1:])


def test_the_fused_image_has_the_colour_of_the_visible_one_and_a_grey_one_stays_grey(tmp_path):
    ours = entry(tmp_path, "ours", "paper")
    grey = np.repeat(image(1)[..., None], 3, axis=2)
    for name, vi in (("colour", image(2, (*SHAPE, 3))), ("grey", grey)):
        pair = Pair("MSRS", name, tmp_path / "i" / f"{name}.png", tmp_path / "v" / f"{name}.png")
        save_image(pair.ir, image(0))
        save_image(pair.vi, vi)
        y = np.full(SHAPE, 102 / 255, np.float32)
        save_image(ours.folder / "MSRS" / f"{name}.png", y)
        ((_, shown, fused),) = compare.triples(ours, [pair])
        assert fused.shape == (SHAPE if name == "grey" else (*SHAPE, 3))
        expected = y if name == "grey" else replace_luma(shown, y)
        assert np.array_equal(fused, expected)


def test_a_missing_image_leaves_its_place_empty(tmp_path, tests):
    given(tmp_path, names=("x",))
    entries, _ = compare.find_entries(make_run(tmp_path), mean)
    compare.fuse_all(entries, tests)
    scenes, columns = compare.find_scenes(entries, {"MSRS": tests["MSRS"]}, 4)
    theirs = columns.index("CHITNet")
    assert [scene.images[theirs] is None for scene in scenes] == [False, True]


def test_learned_methods_displace_classical_ones(tmp_path):
    names = [*"abcdef", "average", "ours"]
    groups = ["paper"] * 3 + ["additional"] * 3 + ["classical", "paper"]
    entries = {n: entry(tmp_path, n, g) for n, g in zip(names, groups, strict=True)}
    assert [e.name for e in compare._shown(entries)] == [*"abcdef", "ours"]
    del entries["f"]
    assert [e.name for e in compare._shown(entries)] == [*"abcde", "average", "ours"]


def test_a_folder_called_like_our_method_is_refused(tmp_path):
    given(tmp_path, "ours")
    with pytest.raises(DatasetError, match="rename the folder"):
        compare.find_entries(make_run(tmp_path), mean)
