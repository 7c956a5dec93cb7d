import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fusionlib import ablation
from fusionlib.clip import ImageEncoder
from fusionlib.datasets import Pair
from fusionlib.errors import WeightsError
from fusionlib.images import save_image
from fusionlib.inference import Fuser
from fusionlib.network import FusionNet, NetworkConfig
from fusionlib.weights import load_weights, save_weights

RECORD = {"config": {"steps": 8, "crop": 96, "seed": 0, "network": {}}, "steps": 6, "of_steps": 8}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )  # fmt: skip
    return ImageEncoder(
        network, name="small", title="small", size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3
    )


def save(path, encoder, cii=True, cff=True, **record):
    config = NetworkConfig(
        embed=8, width=4, blocks=1, heads=2, reduction=2, use_cii=cii, use_cff=cff
    )
    torch.manual_seed(1)
    net = FusionNet(config)
    nn.init.normal_(net.decoder[2].weight, std=0.3)  # zeros would give the maximum whatever is seen
    save_weights(path, net, encoder, RECORD | record)


@pytest.fixture
def folder(tmp_path, encoder):
    for name, cii, cff in ablation.VARIANTS.values():
        save(tmp_path / f"{name}.safetensors", encoder, cii, cff)
    return tmp_path


def load(folder, encoder):
    return ablation.load_variants(ablation.find_variants(folder / "base.safetensors"), encoder)


@pytest.fixture
def pairs(tmp_path):
    made = []
    for name, level in (("bright", 0.9), ("dark", 0.1), ("mixed", 0.5)):
        rng = np.random.default_rng(int(10 * level))
        shape = (40, 48)
        ir = save_image(tmp_path / "ir" / f"{name}.png", level * rng.random(shape))
        vi = save_image(tmp_path / "vi" / f"{name}.png", level * rng.random((*shape, 3)))
        made.append(Pair("TNO", name, ir, vi))
    return made


def test_weights_are_found_under_the_names_of_table_4_with_further_seeds(folder, encoder):
    save(folder / "without_cii_seed1.safetensors", encoder, False, True)
    variants = load(folder, encoder)
    assert list(variants) == ["without_both", "without_cii", "without_cff", "full"]
    assert [w.path.stem for w in variants["without_cii"]] == ["without_cii", "without_cii_seed1"]
    fuser = Fuser(variants["full"][0], encoder, torch.device("cpu"))
    assert list(ablation.fusers(fuser, variants)) == [
        "without_both", "without_cii", "without_cii_seed1", "without_cff", "full",
    ]  # fmt: skip


def test_missing_weights_are_all_named(folder):
    for name in ("without_cii", "without_both"):
        (folder / f"{name}.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"without_both\.\w+, without_cii\.\w+ missing; train"):
        ablation.find_variants(folder / "base.safetensors")


def test_weights_under_a_wrong_name_or_of_another_recipe_are_refused(folder, encoder):
    save(folder / "without_cff.safetensors", encoder, True, True)
    with pytest.raises(WeightsError, match=r"without_cff.*use_cii=True, use_cff=True; expected"):
        load(folder, encoder)
    save(folder / "without_cff.safetensors", encoder, True, False, of_steps=9)
    with pytest.raises(WeightsError, match=r"trained otherwise .*\(of_steps\)"):
        load(folder, encoder)
    save(folder / "without_cff.safetensors", encoder, True, False, steps=7)  # where it was best
    assert load(folder, encoder)
    save(folder / "without_cff.safetensors", encoder, True, False, train_sha256="ab")  # newer
    assert load(folder, encoder)


def test_features_are_replaced_and_only_they(folder, encoder, pairs):
    fuser = Fuser(load_weights(folder / "base.safetensors", encoder), encoder, torch.device("cpu"))
    seen = list(ablation.replaced_features(fuser, pairs, seed=0))
    assert [(p.name, kind) for p, kind, _ in seen[:5]] == [
        *(("bright", kind) for kind in ablation.FEATURES), ("dark", "real"),
    ]  # fmt: skip
    ir, vi = torch.rand(1, 1, 40, 48), torch.rand(1, 3, 40, 48)
    by_kind = {kind: fuse for pair, kind, fuse in seen if pair.name == "mixed"}
    assert torch.equal(by_kind["real"].encoder(ir), encoder(ir))
    other = ablation.features_of(fuser, pairs[0])  # the one after the last
    assert torch.equal(by_kind["other_image"].encoder(vi), other(vi))
    assert not torch.equal(other(ir), other(vi))  # infrared and visible apart
    assert not by_kind["zeros"].encoder(ir).any()
    random = by_kind["random_encoder"].encoder(ir)
    assert random.shape == (1, 8) and random.any() and not torch.equal(random, encoder(ir))
    images = [
        fuse(np.zeros((40, 48), "f4"), np.ones((40, 48, 3), "f4")) for fuse in by_kind.values()
    ]
    assert all(np.abs(images[0] - image).max() > 0 for image in images[1:])


def test_one_pair_has_no_other_image(folder, encoder, pairs):
    fuser = Fuser(load_weights(folder / "base.safetensors", encoder), encoder, torch.device("cpu"))
    with pytest.raises(WeightsError, match="at least two pairs"):
        next(ablation.replaced_features(fuser, pairs[:1], 0))


def test_a_random_encoder_is_the_same_for_a_seed_and_leaves_the_real_one_alone(encoder):
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    a, b, c = (ablation.randomise(encoder, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert (a.size, a.embed) == (encoder.size, encoder.embed)


def test_mean_change_in_grey_levels(tmp_path, pairs):
    for name, level in (("real", 100), ("other", 103)):
        for pair in pairs:
            save_image(tmp_path / name / "TNO" / f"{pair.name}.png", np.full((4, 5), level / 255))
    folders = {name: tmp_path / name for name in ("real", "other")}
    assert ablation.mean_change(folders, "real", pairs) == {"real": 0.0, "other": 3.0}


def summary(*rows):
    columns = ["dataset", "metric", "method", "n", "mean", "p"]
    return pd.DataFrame([("TNO", *row) for row in rows], columns=columns)


def test_better_and_worse_follow_the_direction_of_the_metric():
    frame = summary(
        ("qabf", "full", 8, 0.6, np.nan), ("qabf", "less", 8, 0.5, 0.01),  # higher is better
        ("qcv", "full", 8, 300, np.nan), ("qcv", "less", 8, 200, 0.2),  # lower is
        ("scd", "full", 8, 1.0, np.nan), ("scd", "less", 8, np.nan, np.nan),
        ("viff", "full", 8, 1.0, np.nan), ("viff", "less", 8, 9.0, 0.001),  # not asked for
    )  # fmt: skip
    counts = ablation.compare_with(frame, "full", ["qabf", "qcv", "scd"])
    assert counts.loc["less"].to_list() == [1, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((4, 2, 2, 1, 0), "helps"),
        ((4, 2, 0, 1, 0), "harms"),
        ((6, 0, 0, 0, 0), "no difference shown"),
        ((3, 3, 2, 2, 0), "mixed"),
        ((6, 0, 0, 0, 6), "not tested"),
    ],
)
def test_what_a_comparison_says(counts, verdict):
    names = ["better", "worse", "better, p < 0.05", "worse, p < 0.05", "untested"]
    assert ablation.judge(pd.Series(counts, names)) == verdict


def test_spread_of_several_trainings():
    frame = summary(*(("qabf", m, 8, v, 0.5) for m, v in (("full", 0.6), ("full_seed1", 0.5))))
    spread = ablation.spread_of_seeds(frame, {"full": ["full", "full_seed1"]})
    assert spread.loc[("full", "qabf")].to_list() == pytest.approx([2, 0.55, 0.5, 0.6])


def test_replacing_keeps_weights_and_device(folder, encoder, pairs):
    fuser = Fuser(load_weights(folder / "base.safetensors", encoder), encoder, torch.device("cpu"))
    _, _, real = next(ablation.replaced_features(fuser, pairs, 0))
    assert dataclasses.replace(real, encoder=fuser.encoder) == fuser
