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

    def draw(folder, name, shape=(48, 56)):
        return save_image(tmp_path / folder / f"{name}.png", rng.integers(0, 256, shape, np.uint8))

    datasets = {}
    for dataset, names in {"MSRS": ("00001D", "00002N"), "TNO": ("01", "02")}.items():
        datasets[dataset] = [
            Pair(dataset, n, draw(f"{dataset}/ir", n), draw(f"{dataset}/vi", n, shape=(48, 56, 3)))
            for n in names
        ]
        for name in names:
            for method in ("a", "b"):
                draw(f"results/{method}/{dataset}", name)
    return {m: tmp_path / "results" / m for m in ("a", "b")}, datasets


@pytest.fixture
def measured(monkeypatch):
    """The metrics of each image that is measured."""
    real, calls = evaluation.measure_by, []
    monkeypatch.setattr(
        evaluation, "measure_by", lambda *given: calls.append(given[3]) or real(*given)
    )
    return calls


def run(world, *names, **options):
    return evaluate(*world, list(names) or ["ag", "ssim"], **({"jobs": 1} | options))


def invert(path):
    save_image(path, 255 - read_luma8(path))


def test_rows_are_what_the_metrics_say_of_the_files(world):
    folders, datasets = world
    path = folders["b"] / "TNO" / "02.png"
    fused = read_luma8(path)
    path.unlink()  # colour and other formats are measured by their luma
    save_image(path.with_suffix(".bmp"), np.repeat(fused[:, :, None], 3, axis=2))
    frame = run(world, "qabf", "ag")
    assert list(frame.columns[:5]) == ["dataset", "name", "method", "metric", "value"]
    assert frame["dataset"].tolist() == ["MSRS"] * 8 + ["TNO"] * 8  # the order asked for
    assert (frame["reason"] == "").all()
    row = frame.query("dataset == 'TNO' and name == '02' and method == 'b' and metric == 'qabf'")
    ir, vi = (read_luma8(path) for path in (datasets["TNO"][1].ir, datasets["TNO"][1].vi))
    assert row["value"].item() == metrics.qabf(ir, vi, fused)
    # one dataset alone may be in the folder itself
    one = {"TNO": datasets["TNO"]}
    flat = run(({"a": folders["a"] / "TNO"}, one))
    assert flat.equals(run(({"a": folders["a"]}, one)))


def test_r48_images_that_no_pair_asks_for_do_not_count(world):
    before = run(world)
    save_image(world[0]["a"] / "TNO" / "03.png", np.zeros((48, 56), np.uint8))
    assert run(world).equals(before)


def test_r04_r47_images_that_are_missing_damaged_or_of_another_size_are_named(world):
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        run(({"a": world[0]["a"] / "nowhere"}, world[1]))
    path = world[0]["a"] / "MSRS" / "00002N.png"
    save_image(path, np.zeros((48, 55), np.uint8))
    with pytest.raises(MetricError, match=r"a/MSRS/00002N.png is 55×48, but its sources are 56×48"):
        run(world)
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match="00002N"):
        run(world)
    path.unlink()
    with pytest.raises(DatasetError, match=r"1 fused images are missing: a/MSRS/00002N"):
        run(world)
    frame = run(world, missing="mark")
    empty = frame[frame["value"].isna()]
    assert len(frame) == 16 and set(empty["reason"]) == {"there is no fused image"}
    assert empty["name"].tolist() == ["00002N"] * 2


def test_known_rows_are_not_computed_again(world, tmp_path, measured):
    csv = tmp_path / "values.csv"
    flat = save_image(world[0]["a"] / "TNO" / "01.png", np.full((48, 56), 90, np.uint8))
    first = run(world, "qcv", "vif", csv=csv)
    assert first["reason"][8] == "the fused image is constant and cannot be stretched"
    measured.clear()
    assert run(world, "qcv", "vif", csv=csv).equals(first) and not measured
    save_image(flat, read_luma8(world[1]["TNO"][0].ir))  # all of a changed image
    run(world, "qcv", "vif", "scd", csv=csv)  # and what was not asked for before
    assert sorted(map(len, measured)) == [1] * 7 + [3]
    measured.clear()
    invert(world[1]["TNO"][0].ir)
    third = run(world, "vif", csv=csv)
    assert len(measured) == 2  # both methods on that pair
    by_sum = run(world, "vif", csv=csv, protocol="vif_sum")
    assert (by_sum["value"] == 2 * third["value"]).all()


def test_what_was_computed_survives_an_interruption(world, tmp_path, monkeypatch):
    csv = tmp_path / "values.csv"
    real, calls = evaluation.measure_by, []

    def interrupted(*arguments):
        calls.append(0)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(evaluation, "measure_by", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(world, csv=csv)
    assert len(read_values(csv)) == 2 * 2 * 2  # two pairs, both methods, both metrics
    monkeypatch.undo()
    assert run(world, csv=csv).equals(run(world))


def test_rows_of_earlier_calls_stay_only_if_they_are_to_be_kept(world, tmp_path):
    (folders, datasets), csv, whole = world, tmp_path / "values.csv", tmp_path / "whole.csv"
    run(world, csv=whole, keep=True)
    for method in ("a", "b"):
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
    add("other", folders["b"], "TNO")
    for name in datasets:  # said to be one, and in folders of their own names
        add("n", (folders["b"] / name).rename(tmp_path / f"{name}-fused"), name)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (csv, tmp_path / "results"):  # together
        path.rename(moved / path.name)
    csv = moved / "values.csv"
    add("m", moved / "results" / "a", "TNO")
    assert set(read_values(csv)["method"]) == {"m", "n", "other"}


def test_r74_values_of_images_that_were_replaced_do_not_stay(world, tmp_path):
    csv = tmp_path / "values.csv"
    run(world, "ag", "vif", csv=csv, keep=True)
    invert(world[0]["a"] / "TNO" / "01.png")  # by another program
    run(world, "ssim", csv=csv, keep=True)
    found = read_values(csv).query("dataset == 'TNO' and name == '01'")
    assert set(found.query("method == 'a'")["metric"]) == {"ssim"}
    assert set(found.query("method == 'b'")["metric"]) == {"ag", "vif", "ssim"}


@pytest.mark.parametrize("keep", [False, True])
def test_no_old_value_of_an_image_stays_that_is_damaged_now(world, tmp_path, keep):
    csv = tmp_path / "values.csv"
    run(world, csv=csv)
    (world[0]["a"] / "TNO" / "01.png").write_bytes(b"nothing")
    frame = run(world, csv=csv, keep=keep, on_bad="skip")
    assert [row[:2] for row in frame.attrs["skipped"]] == [("01", "damaged")]
    assert "01" not in set(read_values(csv)["name"]) and len(read_values(csv)) == 12


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
