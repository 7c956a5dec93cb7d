"""Who takes part, folders of images made elsewhere, rows and differences."""

import html
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import wilcoxon
from test_tables import REFERENCE, assert_as_committed
from torch import nn

from fusionlib import evaluation, statistics
from fusionlib.baselines import METHODS
from fusionlib.baselines.results import RELATED
from fusionlib.datasets import SYNTHETIC, Pair
from fusionlib.encoder import ImageEncoder
from fusionlib.errors import ImageError, MetricError, PairError
from fusionlib.images import luma8, save_image
from fusionlib.inference import Fuser
from fusionlib.metrics import PAPER
from fusionlib.network import FusionNet, NetworkConfig
from fusionlib.weights import load_weights, save_weights
from paper import comparison
from paper.ablation import VARIANTS, add_missing
from paper.comparison import Entry
from paper.reported import ELSEWHERE, OWN, read_reported, rivals_printed, title_of
from paper.run import Run
from paper.tables import as_markdown, write_paper_table

NAMES = ("x", "y")
SHAPE = (48, 64)  # enough for every metric
AG = "ag"


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
    weights = tmp_path / "best.safetensors"  # nothing lies beside them
    return Run(preset, tmp_path, parts, "embedded", weights, tmp_path / "run", "cpu", 0)


def given(tmp_path, method="CHITNet", dataset="MSRS", names=NAMES, shape=SHAPE):
    for i, name in enumerate(names):
        save_image(tmp_path / "given" / method / dataset / f"{name}.png", image(100 + i, shape))


def to_markdown(table):
    """Without the spaces that align the columns."""
    return re.sub(r"\| *([^|\n]*?) *(?=\|)", r"| \1 ", as_markdown(table))


def mean(ir, vi):
    return (ir + vi.mean(axis=2)) / 2


# ---- who takes part


def test_who_is_missing_says_why_and_tables_say_it_without_paths_of_this_machine(tmp_path):
    entries, absent = comparison.find_entries(make_run(tmp_path), mean)
    assert list(entries) == ["ours", "SAGE", "average", "maximum", "laplacian"]
    assert absent["LRRNet"] == "not run in the preset quick"
    assert "cannot be read (No such file" in absent["DATFuse"]
    assert set(ELSEWHERE) < set(absent)
    assert str(tmp_path / "given" / "CHITNet") in absent["CHITNet"]
    told = comparison.describe_absent(absent)
    assert str(tmp_path) not in told
    assert (
        "LRRNet, SeAFusion, IFCNN, DIDFuse, TarDAL, DenseFuse (not run in the preset quick)" in told
    )
    assert "DATFuse (published weights not on this machine" in told
    assert "CHITNet (weights never published)" in told
    assert comparison.describe_absent({}) == ""
    assert comparison.describe_datasets(["LLVIP", "MSRS"]) == "LLVIP and MSRS"
    assert comparison.describe_datasets([SYNTHETIC]) == "drawn synthetic scenes"
    absent = comparison.find_entries(make_run(tmp_path, "paper"), mean)[1]
    assert "cannot be read (No such file" in absent["LRRNet"]


def test_a_folder_of_images_takes_part_in_the_place_of_its_method(tmp_path):
    for method in ("zzz", "CDDFuse", "MLFusion", "DATFuse", "average", "SeAFusion"):
        given(tmp_path, method)
    entries, absent = comparison.find_entries(make_run(tmp_path), mean)
    assert [(e.name, e.group) for e in entries.values()] == [
        ("MLFusion", "paper"), ("DATFuse", "paper"), ("ours", "paper"), ("SeAFusion", "additional"),
        ("SAGE", "additional"), ("zzz", "additional"), ("average", "classical"),
        ("maximum", "classical"), ("laplacian", "classical"), ("CDDFuse", "related"),
    ]  # fmt: skip
    assert entries["average"].fuse is None and entries["maximum"].fuse is not None
    assert entries["average"].title == "Average"
    assert not {"DATFuse", "MLFusion"} & set(absent)


def test_datasets_that_are_there_are_used_and_synthetic_scenes_only_without_any(tmp_path, tests):
    run = make_run(tmp_path, parts=tests)
    assert comparison.find_tests(run, ["LLVIP", "MSRS"]) == {"MSRS": tests["MSRS"]}
    drawn = comparison.find_tests(run, ["LLVIP"])
    assert list(drawn) == [SYNTHETIC] and len(drawn[SYNTHETIC]) == 8
    assert all(pair.vi.is_file() for pair in drawn[SYNTHETIC])


# ---- images made elsewhere


def measured(tmp_path, tests):
    """Entries, and per-image values of whole folders and of parts."""
    entries, _ = comparison.find_entries(make_run(tmp_path), mean)
    comparison.fuse_all(entries, tests)
    files = tmp_path / "values.csv", tmp_path / "parts.csv"
    whole, part = (comparison.measure(entries, tests, csv, part=csv == files[1]) for csv in files)
    assert files[0].is_file() and files[1].is_file() == bool(len(part))
    return entries, whole, part


def test_r47_images_of_a_part_of_the_pairs_stand_beside_ours_over_the_same(tmp_path, tests):
    given(tmp_path, names=("x", "stranger"))
    entries, values, parts = measured(tmp_path, tests)
    assert comparison.check_results(entries, tests) == [
        "CHITNet, MSRS: images of 1 of 2 pairs (without y)",
        "CHITNet, MSRS: 1 images not asked for, ignored",
        "CHITNet: no image of TNO, so no measured row there",
    ]
    assert set(zip(parts["dataset"], parts["method"], parts["name"], strict=True)) == {
        ("MSRS", "CHITNet", "x")
    }
    ranked = statistics.summarise(values).query("dataset == 'MSRS' and metric == 'ag'")
    assert ranked["rank"].sum() == 1 + 2 + 3 + 4 + 5 and "CHITNet" not in set(ranked["method"])
    of_parts = comparison.summarise_parts(parts, values)
    ours = values.query("method == 'ours' and dataset == 'MSRS' and name == 'x'")
    assert of_parts["ours"].tolist() == ours["value"].tolist() and (of_parts["n"] == 1).all()
    assert of_parts["mean"].tolist() == parts["value"].tolist()
    datasets = list(tests)
    summary = statistics.summarise(values)
    cells = comparison.table_cells(summary, empty(), entries, datasets, of_parts)
    table = comparison.compose_table(cells, 1, "c", entries)
    text, ag = to_markdown(table), f"{parts.query('metric == @AG')['value'].item():.4f}"
    assert re.search(rf"\| CHITNet \| measured \| 1 of 2 \|.* {ag} \|", text)
    ours_ag = f"{ours.query('metric == @AG')['value'].item():.4f}"
    assert re.search(rf"<sub>ours, same pairs</sub> \| 1 \|.* <sub>{ours_ag}</sub>", text)
    assert any(note.startswith("n of N") for note in table.notes)
    assert not len(comparison.find_differences(cells))  # nothing is reported
    assert not any("eported" in note for note in table.notes)


def test_a_part_is_tested_against_ours_on_its_own_pairs_alone():
    rng = np.random.default_rng(0)
    names = [f"{i:02}" for i in range(20)]
    frame = pd.DataFrame({m: rng.random(20) for m in ("ours", "P", "Q", "few")}, index=names)
    owned = {"P": names[:12], "Q": names[5:], "few": names[:4]}

    def long(method, images):
        about = {"dataset": "TNO", "name": images, "method": method, "metric": "ag"}
        return pd.DataFrame(about | {"value": frame.loc[images, method].to_numpy(), "reason": ""})

    parts = pd.concat([long(method, images) for method, images in owned.items()])
    found = comparison.summarise_parts(parts, long("ours", names)).set_index("method")
    for method, images in owned.items():
        assert found.loc[method, "n"] == len(images)
        assert found.loc[method, "mean"] == pytest.approx(frame.loc[images, method].mean())
        assert found.loc[method, "ours"] == pytest.approx(frame.loc[images, "ours"].mean())
    raw = [wilcoxon(frame.loc[owned[m], m] - frame.loc[owned[m], "ours"]).pvalue for m in "PQ"]
    assert found.loc[["P", "Q"], "p"].tolist() == pytest.approx(statistics.holm(np.array(raw)))
    assert np.isnan(found.loc["few", "p"]) and found["rank"].isna().all()
    assert found.loc["few", "note"] == "test not computed: n < 6"
    assert not len(comparison.summarise_parts(parts[:0], long("ours", names)))


def test_r47_a_complete_folder_is_measured_by_the_luma_of_its_images(tmp_path, tests):
    tests = {"MSRS": tests["MSRS"]}
    for name in NAMES:
        rgb = image(7, (*SHAPE, 3))
        save_image(tmp_path / "given" / "colour" / "MSRS" / f"{name}.png", rgb)
        save_image(tmp_path / "given" / "grey" / "MSRS" / f"{name}.png", luma8(rgb))
    entries, values, parts = measured(tmp_path, tests)
    assert comparison.check_results(entries, tests) == [] and not len(parts)
    direct = evaluation.evaluate({"m": tmp_path / "given" / "grey"}, tests)["value"].tolist()
    for method in ("colour", "grey"):
        assert values.loc[values["method"] == method, "value"].tolist() == direct


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda f: save_image(f / "x.png", image(0, (48, 60))), MetricError,
         r"x\.png is 60×48, but its sources are 64×48"),
        (lambda f: (f / "y.png").write_bytes(b"nothing"), ImageError, r"y\.png"),
        (lambda f: save_image(f / "x.bmp", image(0)), PairError, r"x\.bmp"),
    ],
    ids=["size", "damaged", "doubled"],
)  # fmt: skip
def test_r47_an_image_that_does_not_fit_is_named_before_anything_runs(
    tmp_path, tests, spoil, error, message
):
    given(tmp_path)
    entries, _ = comparison.find_entries(make_run(tmp_path), mean)
    spoil(tmp_path / "given" / "CHITNet" / "MSRS")
    with pytest.raises(error, match=message):
        comparison.check_results(entries, tests)


def test_ours_to_the_letter_takes_part_if_its_weights_lie_beside_those_used(tmp_path):
    run, fuser = make_run(tmp_path), trained(tmp_path / "best.safetensors", 1)
    assert "letter" not in comparison.find_entries(run, fuser)[0]
    trained(tmp_path / "letter.safetensors", 2)
    entries, _ = comparison.find_entries(run, fuser)
    assert [(e.name, e.title, e.group) for e in entries.values()][:2] == [
        ("letter", "ours, to the letter", "paper"), ("ours", "ours", "paper"),
    ]  # fmt: skip
    ir, vi = image(0), image(1, (*SHAPE, 3))
    made = [entries[name].fuse(ir, vi) for name in ("letter", "ours")]
    assert not np.allclose(*made) and np.array_equal(made[1], fuser(ir, vi))
    assert entries["letter"].fuse.encoder is fuser.encoder
    itself = SimpleNamespace(**vars(run) | {"weights": tmp_path / "letter.safetensors"})
    assert comparison.find_letter(itself, fuser) == {}
    trained(tmp_path / "letter.safetensors", 2, "another")
    assert comparison.find_letter(run, fuser) == {}


def trained(path, seed, name="small"):
    """A small network in a weights file, and the fuser of it."""
    about = {"size": (16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 8))
    encoder = ImageEncoder(network, name=name, title=name, **about)
    torch.manual_seed(seed)
    net = FusionNet(NetworkConfig(embed=8, width=4, blocks=1, heads=2, reduction=2))
    save_weights(path, net, encoder, {"steps": seed})
    return Fuser(load_weights(path, encoder), encoder, torch.device("cpu"))


def test_brightness_and_contrast_are_those_of_the_saved_8_bit_luma(tmp_path, tests):
    entries = {n: entry(tmp_path, n, "paper") for n in ("ours", "nobody")}
    half = np.zeros((4, 4), np.float32)
    half[:2] = 100 / 255
    for name in NAMES:
        save_image(entries["ours"].folder / "MSRS" / f"{name}.png", half)
    save_image(entries["nobody"].folder / "MSRS" / "x.png", half)
    found = comparison.measure_brightness(entries, tests, tmp_path / "b.csv")
    assert set(found["method"]) == {"ours"} and set(found["dataset"]) == {"MSRS"}
    wide = found.set_index(["name", "metric"])["value"]
    assert (wide["x", "mean"], wide["x", "contrast"]) == (50, 50)
    assert evaluation.read_values(tmp_path / "b.csv")["metric"].tolist() == ["contrast", "mean"] * 2


def empty():
    return pd.DataFrame([], columns=["dataset", "method", *PAPER, "source"])


def entry(tmp_path, name, group):
    return Entry(name, name, group, tmp_path / "run" / name, mean)


# ---- the committed tables


def frame_of(name):
    return pd.read_csv(REFERENCE / f"{name}.csv", float_precision="round_trip")


@pytest.mark.parametrize(
    ("number", "source", "datasets"),
    [
        (1, "compare", ["LLVIP", "M3FD"]),
        (2, "compare", ["MSRS", "RoadScene"]),
        (3, "generalise", ["TNO"]),
        (4, "table4", ["MSRS"]),
    ],
)
def test_committed_tables_come_out_of_committed_statistics_byte_by_byte(
    tmp_path, number, source, datasets
):
    """Rows, their order, marks, daggers, rules, intervals and notes, in four formats."""
    values = evaluation.read_values(REFERENCE / f"{source}_values.csv")
    summary = frame_of({"compare": "statistics"}.get(source, f"{source}_statistics"))
    entries, part = {}, None
    if number == 4:
        entries = {name: Entry(name, title_of(name), "paper", tmp_path, None) for name in VARIANTS}
    else:
        parts = evaluation.read_values(REFERENCE / f"{source}_parts.csv")
        part = comparison.summarise_parts(parts, values)
        order = [*rivals_printed(), *OWN, *METHODS, *sorted(set(part["method"]))]
        for name in (n for n in order if n in {*summary["method"], *part["method"]}):
            group = "related" if name in RELATED else "paper"
            group = METHODS[name].group if name in METHODS else group
            entries[name] = Entry(name, title_of(name), group, tmp_path, None)
        by_group = [(comparison.GROUPS.index(e.group), n) for n, e in entries.items()]
        entries = {n: entries[n] for _, n in sorted(by_group, key=lambda pair: pair[0])}
    cells = comparison.table_cells(summary, read_reported(number), entries, datasets, part)
    if number == 4:
        cells = add_missing(cells, "MSRS", ["without_cii", "without_cff"])
    page = (REFERENCE / f"table{number}.html").read_text("utf-8")
    caption = re.search(r"<caption>Table \d. (.*)</caption>", page)[1]
    explained = comparison.compose_table(cells, number, caption, entries).notes
    notes = [html.unescape(note) for note in re.findall("<p>(.*)</p>", page)][len(explained) :]
    table = comparison.compose_table(cells, number, caption, entries, notes)
    for path in write_paper_table(table, tmp_path):
        assert_as_committed(path)
