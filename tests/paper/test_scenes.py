"""Figures 4 to 7: which scenes with which regions, columns and captions, and how they are laid."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scenes import read_scene
from test_comparison import SHAPE, entry, given, image, make_run, mean, surroundings, tests

from fusionlib.datasets import DATASETS, SYNTHETIC, Pair
from fusionlib.errors import DatasetError
from fusionlib.images import replace_luma, save_image
from fusionlib.splits import read_split
from paper import comparison, scenes
from paper.scenes import Scene, read_zooms

__all__ = ["surroundings", "tests"]  # fixtures
ZOOMS = ((8, 4, 16, 12), (40, 30, 16, 12))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def assert_apart_and_inside(figure):
    """Nothing is cut off, and no image or text covers another."""
    figure.draw_without_rendering()
    boxes = [part.get_window_extent() for part in (*figure.axes, *figure.texts)]
    for i, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def scene(*zooms):
    return Scene("set\nname", [np.tile(np.linspace(0, 1, 80), (60, 1))] * 3, zooms)


def test_details_show_the_pixels_inside_their_frames():
    whole, *details = scenes.zoom_grid([scene(*ZOOMS)], "abc").axes[:3]
    ramp = np.linspace(0, 1, 80)
    for axis, start, colour in zip(details, (8, 40), scenes.ZOOM_COLOURS, strict=True):
        shown = np.asarray(axis.images[0].get_array())
        assert shown.shape == (12, 16) and (shown == ramp[start : start + 16]).all()
        assert axis.spines["top"].get_edgecolor() == mpl.colors.to_rgba(colour)
    frames = [(*p.get_xy(), p.get_width(), p.get_height()) for p in whole.patches]
    assert frames == [(7.5, 3.5, 16, 12), (39.5, 29.5, 16, 12)]


def test_nothing_of_a_grid_is_stretched_cut_off_or_covered():
    grid = [scene(*ZOOMS), scene(), Scene("s", [np.zeros((6, 8)), None, np.zeros((6, 8))])]
    figure = scenes.zoom_grid(grid, ["infrared", "Laplacian pyramid", "ours"], width=5)
    assert len(figure.axes) == 3 * 3 + 3 + 2 and len(figure.texts) == 3 + 3
    for axis in figure.axes:
        (height, width), box = axis.images[0].get_array().shape[:2], axis.get_window_extent()
        assert box.width / box.height == pytest.approx(width / height, rel=1e-6)
    assert_apart_and_inside(figure)


def test_figure_7_has_the_papers_layout_and_differences_that_can_be_seen():
    """Left one scene, right the other, a column for each variant, its details below it."""
    ours = np.full((60, 80, 3), 0.5)
    other = ours.copy()
    other[10:20, 10:30] += 0.06
    parts = [
        Scene(f"MSRS\n{name}", [ours[..., 0], ours, None, other, ours], ZOOMS)
        for name in ("00927N", "00427D")
    ]
    titles = ["infrared", "visible", "w/o CII", "w/o CFF", "ours"]
    figure = scenes.side_by_side(parts, titles, "not trained")
    assert_apart_and_inside(figure)
    where = {}
    for text in figure.texts:
        where.setdefault(text.get_text(), []).append(text.get_window_extent())
    (left,), (right,) = where["MSRS 00927N"], where["MSRS 00427D"]
    assert left.x1 < figure.bbox.width / 2 < right.x0
    for half in (0, 1):
        assert where["w/o CFF"][half].x1 < where["ours"][half].x0
    assert "w/o CII" not in where and "not trained: w/o CII" in where
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    # each half: two images, two details of each, one difference, two sources
    assert len(shown) == 2 * (2 + 4 + 1 + 2)
    differences = [image for image in shown if image.shape == (60, 80) and np.ptp(image) > 0]
    assert len(differences) == 2  # of w/o CFF to ours, in both halves
    for shown in differences:
        assert np.allclose(shown[10:20, 10:30], 0.5 + 5 * 0.06) and np.allclose(shown[30:], 0.5)


@pytest.mark.parametrize("region", [(70, 0, 16, 12), (0, 50, 16, 12), (-1, 0, 16, 12)])
def test_a_region_outside_its_image_is_an_error(region):
    with pytest.raises(DatasetError, match=r"not inside its image of 80×60; see zooms.csv"):
        scenes.zoom_grid([scene(region, (0, 0, 16, 12))], "abc")


@pytest.mark.parametrize(
    ("number", "real"),
    {4: ["LLVIP", "MSRS"], 5: ["RoadScene", "M3FD"], 6: ["TNO"], 7: ["MSRS"]}.items(),
)
def test_the_committed_scenes_are_the_papers_datasets_and_test_pairs(number, real):
    """With two scenes of each; the drawn ones hold their regions."""
    found = read_zooms(number)
    order = [dataset for dataset, _ in found if dataset != SYNTHETIC]
    assert order == [dataset for dataset in real for _ in range(2)]
    assert {dataset for dataset, _ in found} <= set(DATASETS) and len(found) >= 4
    for (dataset, name), regions in found.items():
        assert read_split(dataset)[name] == "test"
        one, two = regions
        assert one[2:] == two[2:]  # of one shape
        if dataset == SYNTHETIC:
            scenes.zoom_grid([Scene(name, [read_scene(name)[1]] * 2, regions)], "ab")
    if number == 7:  # the paper's own scenes, from left to right
        assert [name for dataset, name in found if dataset == "MSRS"] == ["00927N", "00427D"]


# ---- which scenes, columns and captions


def test_a_figure_has_its_own_datasets_and_scenes_and_is_in_colour(tmp_path, tests, monkeypatch):
    regions = ("4,MSRS,y,1,2,8,6", "4,MSRS,y,3,4,8,6", "4,TNO,z,1,1,2,2", "4,TNO,z,1,1,2,2",
               "5,MSRS,x,1,2,8,6", "5,MSRS,x,3,4,8,6")  # fmt: skip
    lines = ("figure,dataset,name,x,y,width,height", *regions, "")
    monkeypatch.setattr(scenes, "ZOOMS", tmp_path / "zooms.csv")
    scenes.ZOOMS.write_text("\n".join(lines))
    given(tmp_path, names=("y",))
    entries, _ = comparison.find_entries(make_run(tmp_path), mean)
    comparison.fuse_all(entries, tests)
    found, columns = scenes.find_scenes(entries, tests, 4)
    assert columns[:4] == ["infrared", "visible", "CHITNet", "ours"]
    assert [scene.images[2] is None for scene in found] == [False, True, True]
    assert [scene.label for scene in found] == ["MSRS\ny", "TNO\nx", "TNO\ny"]
    assert [len(scene.zooms) for scene in found] == [2, 0, 0]
    assert [s.label for s in scenes.find_scenes(entries, tests, 5)[0]] == ["MSRS\nx"]
    assert scenes.find_scenes(entries, tests, 6)[0] == []
    first = found[0].images
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
        _, shown, fused = scenes.read_images([ours], pair)
        assert fused.shape == (SHAPE if name == "grey" else (*SHAPE, 3))
        expected = y if name == "grey" else replace_luma(shown, y)
        assert np.array_equal(fused, expected)


def test_learned_methods_displace_classical_ones_and_related_ones_are_not_shown(tmp_path):
    names = [*"abcdef", "average", "ours", "CDDFuse"]
    groups = ["paper"] * 3 + ["additional"] * 3 + ["classical", "paper", "related"]
    entries = {n: entry(tmp_path, n, g) for n, g in zip(names, groups, strict=True)}
    columns = scenes.find_scenes(entries, {}, 4)[1][2:]
    assert columns == [*"abcdef", "ours"]
    del entries["f"]
    assert scenes.find_scenes(entries, {}, 4)[1][2:] == [*"abcde", "average", "ours"]


def test_the_caption_tells_the_papers_columns_from_the_additional_ones(tmp_path):
    groups = {"DATFuse": "paper", "letter": "paper", "ours": "paper", "SeAFusion": "additional"}
    entries = {name: entry(tmp_path, name, group) for name, group in groups.items()}
    caption = scenes.describe_figure(entries, [Scene("TNO\n33", [])])
    assert caption.startswith(
        "Rows: TNO 33. Columns of the paper: infrared; visible; DATFuse; ours. Additional columns: "
        "letter; SeAFusion. Columns of the paper, not measured here: MLFusion; LRRNet; CHITNet; "
        "IVFWSR; TIMFusion."
    )
