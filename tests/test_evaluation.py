import sys

import joblib
import numpy as np
import pytest
from PIL import Image

from fusionlib import evaluation, metrics
from fusionlib.datasets import Pair
from fusionlib.errors import DatasetError, ImageError, MetricError
from fusionlib.evaluation import evaluate, read_values
from fusionlib.images import read_luma8, save_image


@pytest.fixture
def world(tmp_path):
    """Two datasets of two pairs, fused by two methods; ``results/<method>/<dataset>/``."""
    rng = np.random.default_rng(0)

    def draw(folder, name, *channels):
        image = rng.integers(0, 256, (48, 56, *channels), np.uint8)
        return save_image(tmp_path / folder / f"{name}.png", image)

    datasets = {"MSRS": [], "TNO": []}
    for dataset, name in (("MSRS", "1D"), ("MSRS", "2N"), ("TNO", "01"), ("TNO", "02")):
        sources = draw(f"{dataset}/ir", name), draw(f"{dataset}/vi", name, 3)
        datasets[dataset].append(Pair(dataset, name, *sources))
        for method in "ab":
            draw(f"results/{method}/{dataset}", name)
    return {method: tmp_path / "results" / method for method in "ab"}, datasets


def run(world, *names, **options):
    return evaluate(*world, list(names) or ["ag", "ssim"], **({"jobs": 1} | options))


def invert(path):
    save_image(path, 255 - read_luma8(path))


def test_r48_rows_are_what_the_metrics_say_of_the_files_that_pairs_ask_for(world):
    folders, datasets = world
    path = folders["b"] / "TNO" / "02.png"
    fused = read_luma8(path)
    path.unlink()  # colour and other formats are measured by their luma
    save_image(path.with_suffix(".bmp"), np.repeat(fused[:, :, None], 3, axis=2))
    save_image(path.with_name("03.png"), fused)
    frame = run(world, "qabf", "ag")
    assert list(frame.columns[:5]) == ["dataset", "name", "method", "metric", "value"]
    assert frame["dataset"].tolist() == ["MSRS"] * 8 + ["TNO"] * 8  # the order asked for
    assert (frame["reason"] == "").all() and set(frame["name"]) == {"1D", "2N", "01", "02"}
    row = frame.query("dataset == 'TNO' and name == '02' and method == 'b' and metric == 'qabf'")
    ir, vi = (read_luma8(path) for path in (datasets["TNO"][1].ir, datasets["TNO"][1].vi))
    assert row["value"].item() == metrics.qabf(ir, vi, fused)
    # one dataset alone may be in the folder itself
    one = {"TNO": datasets["TNO"]}
    assert run(({"a": folders["a"] / "TNO"}, one)).equals(run(({"a": folders["a"]}, one)))


def test_r04_r47_images_that_are_missing_damaged_or_of_another_size_are_named(world):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        run(({"a": world[0]["a"] / "nowhere"}, world[1]))
    path = world[0]["a"] / "MSRS" / "2N.png"
    save_image(path, np.zeros((48, 55), np.uint8))
    with pytest.raises(MetricError, match=r"a/MSRS/2N.png is 55×48, but its sources are 56×48"):
        run(world)
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match="2N"):
        run(world)
    path.unlink()
    with pytest.raises(DatasetError, match=r"1 fused images are missing: a/MSRS/2N"):
        run(world)
    frame = run(world, missing="mark")
    empty = frame[frame["value"].isna()]
    assert len(frame) == 16 and set(empty["reason"]) == {"there is no fused image"}
    assert empty["name"].tolist() == ["2N"] * 2


def test_known_rows_are_not_computed_again_nor_lost_in_an_interruption(
    world, tmp_path, monkeypatch
):
    real, measured, most = evaluation.measure_by, [], 4

    def counted(*arguments):
        if len(measured) == most:
            raise KeyboardInterrupt
        measured.append(arguments[3])
        return real(*arguments)

    def again(*names, **options):
        measured.clear()
        return run(world, *names, csv=tmp_path / "values.csv", **options)

    monkeypatch.setattr(evaluation, "measure_by", counted)
    flat = save_image(world[0]["a"] / "TNO" / "01.png", np.full((48, 56), 90, np.uint8))
    with pytest.raises(KeyboardInterrupt):
        again("qcv", "vif")
    assert len(read_values(tmp_path / "values.csv")) == 2 * 2 * 2  # pairs, methods, metrics
    most = 99
    first = again("qcv", "vif")
    assert len(measured) == 4
    assert first["reason"][8] == "the fused image is constant and cannot be stretched"
    assert again("qcv", "vif").equals(first) and not measured
    save_image(flat, read_luma8(world[1]["TNO"][0].ir))
    again("qcv", "vif", "scd")  # all of a changed image, and what was not asked for before
    assert sorted(map(len, measured)) == [1] * 7 + [3]
    invert(world[1]["TNO"][0].ir)
    third = again("vif")
    assert len(measured) == 2  # both methods on that pair
    assert (again("vif", protocol="vif_sum")["value"] == 2 * third["value"]).all()
    invert(world[0]["a"] / "TNO" / "01.png")
    most = 0
    with pytest.raises(KeyboardInterrupt):
        again("vif", protocol="vif_sum")
    kept = read_values(tmp_path / "values.csv")  # none of the changed image, all of the others
    assert (
        len(kept) == 7 and kept.query("dataset == 'TNO' and name == '01'")["method"].eq("b").all()
    )


def test_rows_of_earlier_calls_stay_only_if_they_are_to_be_kept(world, tmp_path):
    (folders, datasets), csv, whole = world, tmp_path / "values.csv", tmp_path / "whole.csv"
    run(world, csv=whole, keep=True)
    for method in "ab":
        for name, pairs in datasets.items():
            part = run(({method: folders[method]}, {name: pairs}), "ag", csv=csv, keep=True)
            assert set(part["method"]) == {method} and set(part["dataset"]) == {name}
    run(world, "ssim", csv=csv, keep=True)
    assert csv.read_bytes() == whole.read_bytes()
    one = {"a": folders["a"]}, {"TNO": datasets["TNO"]}
    invert(folders["a"] / "TNO" / "01.png")  # a changed image replaces its own row
    run(one, csv=csv, keep=True)
    run(world, csv=whole, keep=True)
    assert csv.read_bytes() == whole.read_bytes()
    run(one, csv=csv)
    assert set(read_values(csv)["method"]) == {"a"}


def test_r74_two_folders_under_one_method_name_are_refused_and_both_named(world, tmp_path):
    (folders, datasets), csv = world, tmp_path / "values.csv"

    def add(name, folder, dataset, metric="ag"):
        run(({name: folder}, {dataset: datasets[dataset]}), metric, csv=csv, keep=True)

    for name in datasets:  # the datasets of one method may be given one by one
        add("m", folders["a"] / name, name)
    before = csv.read_bytes()
    for metric in ("ag", "ssim"):
        with pytest.raises(DatasetError, match=r"'m' from the folder results/a.*from results/b"):
            add("m", folders["b"], "TNO", metric)
    assert csv.read_bytes() == before
    for name in datasets:  # said to be one, and in folders of their own names
        add("n", (folders["b"] / name).rename(tmp_path / f"{name}-fused"), name)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (csv, tmp_path / "results"):  # together
        path.rename(moved / path.name)
    csv = moved / "values.csv"
    add("m", moved / "results" / "a", "TNO")
    assert set(read_values(csv)["method"]) == {"m", "n"}


def test_r74_values_of_images_that_were_replaced_do_not_stay(world, tmp_path):
    csv, path = tmp_path / "values.csv", world[0]["a"] / "TNO" / "01.png"
    run(world, "ag", "vif", csv=csv, keep=True)
    invert(path)  # by another program
    run(world, "ssim", csv=csv, keep=True)
    found = read_values(csv).query("dataset == 'TNO' and name == '01'")
    assert set(found.query("method == 'a'")["metric"]) == {"ssim"}
    assert set(found.query("method == 'b'")["metric"]) == {"ag", "vif", "ssim"}
    path.write_bytes(b"nothing")
    for keep in (True, False):
        frame = run(world, "ag", csv=csv, keep=keep, on_bad="skip")
        assert [row[:2] for row in frame.attrs["skipped"]] == [("01", "damaged")]
        assert "01" not in set(read_values(csv)["name"])
    assert len(read_values(csv)) == 3 * 2


def test_sources_are_read_as_fuse_read_them(world):
    pair = world[1]["TNO"][0]
    one = world[0], {"TNO": [pair]}
    whole = run(one, "scd")["value"]
    raw = 7000 + 4 * read_luma8(pair.ir).astype(np.uint16)  # of a camera with 14 bits
    Image.fromarray(raw).save(pair.ir)
    again = run(one, "scd", reading={"ir_range": (7000, 7000 + 4 * 255)})
    assert again["value"].tolist() == whole.tolist()


def test_two_processes_and_a_dask_cluster_give_the_same(world):
    expected = run(world, "qabf")
    assert run(world, "qabf", jobs=2).equals(expected)
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        frame = run(world, "qabf", jobs=-1)
        assert any(client.run(lambda: "fusionlib.metrics" in sys.modules).values())
    assert frame.equals(expected)
