import math
from pathlib import Path

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

    def draw(path, shape=(48, 56)):
        return save_image(path, rng.integers(0, 256, shape).astype(np.uint8))

    datasets = {}
    for dataset, names in {"MSRS": ("00001D", "00002N"), "TNO": ("01", "02")}.items():
        datasets[dataset] = [
            Pair(
                dataset,
                name,
                draw(tmp_path / dataset / "ir" / f"{name}.png"),
                draw(tmp_path / dataset / "vi" / f"{name}.png", (48, 56, 3)),
            )
            for name in names
        ]
        for method in ("a", "b"):
            for name in names:
                draw(tmp_path / "results" / method / dataset / f"{name}.png")
    return {m: tmp_path / "results" / m for m in ("a", "b")}, datasets


def run(world, *names, **options):
    return evaluate(*world, list(names) or ["ag", "ssim"], jobs=1, **options)


def test_rows_are_what_the_metrics_say_of_the_files(world):
    folders, datasets = world
    path = folders["b"] / "TNO" / "02.png"
    fused = read_luma8(path)
    path.unlink()  # colour and other formats are measured by their luma
    save_image(path.with_suffix(".bmp"), np.repeat(fused[:, :, None], 3, axis=2))
    frame = run(world, "qabf", "ag")
    assert list(frame.columns[:5]) == ["dataset", "name", "method", "metric", "value"]
    assert len(frame) == 4 * 2 * 2 and (frame["reason"] == "").all()
    pair = datasets["TNO"][1]
    row = frame.query("dataset == 'TNO' and name == '02' and method == 'b' and metric == 'qabf'")
    expected = metrics.qabf(read_luma8(pair.ir), read_luma8(pair.vi), fused)
    assert row["value"].item() == expected
    assert frame["dataset"].tolist() == ["MSRS"] * 8 + ["TNO"] * 8  # the order asked for


def test_r48_images_that_no_pair_asks_for_do_not_count(world):
    before = run(world)
    save_image(world[0]["a"] / "TNO" / "03.png", np.zeros((48, 56), np.uint8))
    assert run(world).equals(before)


def test_r47_a_missing_image_is_an_error_or_a_marked_row(world):
    (world[0]["b"] / "TNO" / "01.png").unlink()
    with pytest.raises(DatasetError, match=r"1 fused images are missing: b/TNO/01"):
        run(world)
    frame = run(world, missing="mark")
    empty = frame[frame["value"].isna()]
    assert len(frame) == 16 and len(empty) == 2
    assert set(empty["reason"]) == {"there is no fused image"} and set(empty["name"]) == {"01"}
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        evaluate({"a": world[0]["a"] / "nowhere"}, world[1], ["ag"])


def test_one_dataset_may_lie_in_the_folder_itself(world):
    folders, datasets = world
    flat = evaluate({"a": folders["a"] / "TNO"}, {"TNO": datasets["TNO"]}, ["ag"], jobs=1)
    nested = evaluate({"a": folders["a"]}, {"TNO": datasets["TNO"]}, ["ag"], jobs=1)
    assert flat.equals(nested)


def test_r04_a_damaged_fused_image_and_one_of_another_size_are_named(world):
    path = world[0]["a"] / "MSRS" / "00002N.png"
    save_image(path, np.zeros((48, 55), np.uint8))
    with pytest.raises(MetricError, match=r"a/MSRS/00002N.png is 55×48, but its sources are 56×48"):
        run(world)
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageError, match="00002N"):
        run(world)


def test_r05_an_undefined_value_keeps_its_reason_in_the_csv(world, tmp_path):
    save_image(world[0]["a"] / "TNO" / "01.png", np.full((48, 56), 90, np.uint8))
    frame = run(world, "qcv", csv=tmp_path / "values.csv")
    back = read_values(tmp_path / "values.csv")
    for table in (frame, back):
        row = table[table["value"].isna()]
        assert row[["dataset", "name", "method"]].to_numpy().tolist() == [["TNO", "01", "a"]]
        assert row["reason"].item() == "the fused image is constant and cannot be stretched"


def test_known_rows_are_not_computed_again(world, tmp_path, monkeypatch):
    csv = tmp_path / "values.csv"
    first = run(world, csv=csv)
    monkeypatch.setattr(evaluation, "read_luma8", None)  # whoever reads an image now, fails
    again = run(world, csv=csv)
    assert again.equals(first)
    monkeypatch.undo()
    measured = []
    monkeypatch.setattr(
        evaluation, "measure_by", lambda p, s, f, m: measured.append(m) or {k: (1.0, "") for k in m}
    )
    image = read_luma8(world[0]["a"] / "TNO" / "01.png")
    save_image(world[0]["a"] / "TNO" / "01.png", 255 - image)
    changed = run(world, "ag", "ssim", "scd", csv=csv)
    # all of the changed image, and of the others what was not asked for before
    assert sorted(map(len, measured)) == [1] * 7 + [3]
    assert (changed["value"] == 1).sum() == 7 + 3


def test_other_sources_or_protocol_are_other_values(world, tmp_path):
    csv = tmp_path / "values.csv"
    first = run(world, "vif", csv=csv)
    assert (run(world, "vif", csv=csv, protocol="vif_sum")["value"] == 2 * first["value"]).all()
    pair = world[1]["TNO"][0]
    save_image(pair.ir, 255 - read_luma8(pair.ir))
    third = run(world, "vif", csv=csv)
    assert (third["value"] != first["value"]).sum() == 2  # both methods on that pair


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
    monkeypatch.undo()
    assert len(read_values(csv)) == 2 * 2 * 2  # two pairs, both methods, both metrics
    assert run(world, csv=csv).equals(run(world))


def test_rows_of_earlier_calls_stay_only_if_they_are_to_be_kept(world, tmp_path):
    (folders, datasets), csv, whole = world, tmp_path / "values.csv", tmp_path / "whole.csv"
    run(world, csv=whole, keep=True)
    for method in ("a", "b"):
        for name, pairs in datasets.items():
            part = evaluate({method: folders[method]}, {name: pairs}, ["ag"], csv=csv, keep=True)
            assert set(part["method"]) == {method} and set(part["dataset"]) == {name}
    run(world, "ssim", csv=csv, keep=True)
    assert csv.read_bytes() == whole.read_bytes()
    # a changed image replaces its own row
    image = read_luma8(folders["a"] / "TNO" / "01.png")
    save_image(folders["a"] / "TNO" / "01.png", 255 - image)
    evaluate({"a": folders["a"]}, {"TNO": datasets["TNO"]}, ["ag", "ssim"], csv=csv, keep=True)
    run(world, csv=whole, keep=True)
    assert csv.read_bytes() == whole.read_bytes()
    evaluate({"a": folders["a"]}, {"TNO": datasets["TNO"]}, ["ag"], csv=csv)
    assert set(read_values(csv)["method"]) == {"a"}


def test_r74_two_folders_under_one_method_name_are_refused_and_both_named(world, tmp_path):
    (folders, datasets), csv = world, tmp_path / "values.csv"
    for name in datasets:  # the datasets of one method may be given one by one
        evaluate(
            {"m": folders["a"] / name}, {name: datasets[name]}, ["ag"], csv=csv, keep=True, jobs=1
        )
    before = csv.read_bytes()
    for metric in ("ag", "ssim"):
        with pytest.raises(DatasetError, match=r"'m' from the folder results/a.*from results/b"):
            evaluate({"m": folders["b"]}, datasets, [metric], csv=csv, keep=True, jobs=1)
    assert csv.read_bytes() == before
    run(world, csv=csv, keep=True)  # other names
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in (csv, tmp_path / "results"):  # together
        path.rename(moved / path.name)
    again = {"m": moved / "results" / "a"}
    evaluate(again, datasets, ["ag"], csv=moved / "values.csv", keep=True, jobs=1)
    for name, pairs in datasets.items():  # said to be one, and in folders of their own names
        fused = (moved / "results" / "b" / name).rename(tmp_path / f"{name}-fused")
        evaluate({"n": fused}, {name: pairs}, ["ag"], csv=csv, keep=True, jobs=1)
    assert set(read_values(csv)["dataset"]) == set(datasets)


def test_r74_values_of_images_that_were_replaced_do_not_stay(world, tmp_path):
    csv, path = tmp_path / "values.csv", world[0]["a"] / "TNO" / "01.png"
    run(world, "ag", "vif", csv=csv, keep=True)
    save_image(path, 255 - read_luma8(path))  # by another program
    run(world, "ssim", csv=csv, keep=True)
    found = read_values(csv).query("dataset == 'TNO' and name == '01'")
    assert set(found.query("method == 'a'")["metric"]) == {"ssim"}
    assert set(found.query("method == 'b'")["metric"]) == {"ag", "vif", "ssim"}


def test_sources_are_read_as_fuse_read_them_if_that_is_asked_for(world):
    folders, pair = world[0], world[1]["TNO"][0]
    one = {"TNO": [pair]}, ["scd"]
    whole = evaluate(folders, *one, jobs=1)["value"]
    raw = 7000 + 4 * read_luma8(pair.ir).astype(np.uint16)  # of a camera with 14 bits
    Image.fromarray(raw).save(pair.ir)
    again = evaluate(folders, *one, reading={"ir_range": (7000, 7000 + 4 * 255)}, jobs=1)
    assert again["value"].tolist() == whole.tolist()


@pytest.mark.parametrize("keep", [False, True])
def test_no_old_value_of_an_image_stays_that_is_damaged_now(world, tmp_path, keep):
    csv, path = tmp_path / "values.csv", world[0]["a"] / "TNO" / "01.png"
    run(world, csv=csv)
    path.write_bytes(b"nothing")
    frame = run(world, csv=csv, keep=keep, on_bad="skip")
    assert [row[:2] for row in frame.attrs["skipped"]] == [("01", "damaged")]
    assert "01" not in set(read_values(csv)["name"]) and len(read_values(csv)) == 12


def test_two_runs_write_the_same_bytes(world, tmp_path):
    one, two = tmp_path / "1.csv", tmp_path / "2.csv"
    run(world, csv=one)
    evaluate(*world, ["ag", "ssim"], csv=two, jobs=2)
    assert one.read_bytes() == two.read_bytes()


def test_unknown_metric_and_protocol_are_named_before_anything_is_read(world, monkeypatch):
    monkeypatch.setattr(evaluation, "images_by_stem", None)
    with pytest.raises(MetricError, match="'psnr'"):
        run(world, "psnr")
    with pytest.raises(MetricError, match="'theirs'"):
        run(world, "ag", protocol="theirs")


def test_a_dask_cluster_of_two_workers_gives_the_same(world):
    distributed = pytest.importorskip("distributed")
    expected = run(world, "qabf")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask"),
    ):
        frame = evaluate(*world, ["qabf"])
        where = client.run(lambda: Path(evaluation.__file__).name)
    assert frame.equals(expected) and math.isfinite(frame["value"].sum())
    assert len(where) == 2  # both workers know the package
