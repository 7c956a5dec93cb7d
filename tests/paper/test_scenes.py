"""Scenes of the figures: which, with which regions, columns and captions."""

import numpy as np
import pandas as pd
from test_comparison import SHAPE, entry, given, image, make_run, mean, surroundings, tests

from fusionlib.datasets import SYNTHETIC, Pair
from fusionlib.files import REPOSITORY
from fusionlib.images import replace_luma, save_image
from paper import comparison
from paper.figures import Scene, read_zooms

__all__ = ["surroundings", "tests"]  # fixtures


def write_zooms(path, *lines):
    path.write_text("\n".join(["figure,dataset,name,x,y,width,height", *lines, ""]))
    return path


def test_a_figure_has_its_own_datasets_and_scenes_and_is_in_colour(tmp_path, tests, monkeypatch):
    regions = ("4,MSRS,y,1,2,8,6", "4,MSRS,y,3,4,8,6", "4,TNO,z,1,1,2,2", "4,TNO,z,1,1,2,2",
               "5,MSRS,x,1,2,8,6", "5,MSRS,x,3,4,8,6")  # fmt: skip
    zooms = write_zooms(tmp_path / "z.csv", *regions)
    monkeypatch.setattr(comparison, "read_zooms", lambda figure: read_zooms(figure, zooms))
    entries, _ = comparison.find_entries(make_run(tmp_path), mean)
    comparison.fuse_all(entries, tests)
    scenes, columns = comparison.find_scenes(entries, tests, 4)
    assert columns[:4] == ["infrared", "visible", "ours", "SAGE"]
    assert [scene.label for scene in scenes] == ["MSRS\ny", "TNO\nx", "TNO\ny"]
    assert [len(scene.zooms) for scene in scenes] == [2, 0, 0]
    assert [s.label for s in comparison.find_scenes(entries, tests, 5)[0]] == ["MSRS\nx"]
    assert comparison.find_scenes(entries, tests, 6)[0] == []
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
        ((_, shown, fused),) = comparison.triples(ours, [pair])
        assert fused.shape == (SHAPE if name == "grey" else (*SHAPE, 3))
        expected = y if name == "grey" else replace_luma(shown, y)
        assert np.array_equal(fused, expected)


def test_a_missing_image_leaves_its_place_empty(tmp_path, tests):
    given(tmp_path, names=("x",))
    entries, _ = comparison.find_entries(make_run(tmp_path), mean)
    comparison.fuse_all(entries, tests)
    scenes, columns = comparison.find_scenes(entries, {"MSRS": tests["MSRS"]}, 4)
    theirs = columns.index("CHITNet")
    assert [scene.images[theirs] is None for scene in scenes] == [False, True]


def test_learned_methods_displace_classical_ones_and_related_ones_are_not_shown(tmp_path):
    names = [*"abcdef", "average", "ours", "CDDFuse"]
    groups = ["paper"] * 3 + ["additional"] * 3 + ["classical", "paper", "related"]
    entries = {n: entry(tmp_path, n, g) for n, g in zip(names, groups, strict=True)}
    columns = comparison.find_scenes(entries, {}, 4)[1][2:]
    assert columns == [*"abcdef", "ours"]
    del entries["f"]
    assert comparison.find_scenes(entries, {}, 4)[1][2:] == [*"abcde", "average", "ours"]


def test_the_caption_tells_the_papers_columns_from_the_additional_ones(tmp_path):
    groups = {"DATFuse": "paper", "letter": "paper", "ours": "paper", "SeAFusion": "additional"}
    entries = {name: entry(tmp_path, name, group) for name, group in groups.items()}
    caption = comparison.describe_figure(entries, [Scene("TNO\n33", [])])
    assert caption.startswith(
        "Rows: TNO 33. Columns of the paper: infrared; visible; DATFuse; ours. Additional columns: "
        "letter; SeAFusion. Columns of the paper, not measured here: MLFusion; LRRNet; CHITNet; "
        "IVFWSR; TIMFusion."
    )


def test_the_committed_scenes_are_the_papers_datasets_and_test_pairs():
    """Figure 4 LLVIP, MSRS; 5 RoadScene, M3FD; 6 TNO, with two scenes of each."""
    for figure, datasets in {4: ["LLVIP", "MSRS"], 5: ["RoadScene", "M3FD"], 6: ["TNO"]}.items():
        real = [scene for scene in read_zooms(figure) if scene[0] != SYNTHETIC]
        assert [dataset for dataset, _ in real] == [d for d in datasets for _ in range(2)]
        for dataset, name in real:
            listed = pd.read_csv(REPOSITORY / "data" / "splits" / f"{dataset}.csv", dtype=str)
            assert listed.set_index("name").loc[name, "split"] == "test"
