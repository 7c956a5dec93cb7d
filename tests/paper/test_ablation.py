import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fusionlib.datasets import Pair
from fusionlib.encoder import ImageEncoder
from fusionlib.errors import WeightsError
from fusionlib.images import save_image
from fusionlib.inference import Fuser
from fusionlib.metrics import PAPER
from fusionlib.network import FusionNet, NetworkConfig
from fusionlib.weights import SHIPPED, load_weights, save_weights
from paper import ablation
from paper.reported import OURS, read_reported, title_of

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
    sizes = {"embed": 8, "width": 4, "blocks": 1, "heads": 2, "reduction": 2}
    torch.manual_seed(1)
    net = FusionNet(NetworkConfig(**sizes, use_cii=cii, use_cff=cff))
    save_weights(path, net, encoder, RECORD | record)


@pytest.fixture
def folder(tmp_path, encoder):
    for name, parts in ablation.VARIANTS.items():
        save(tmp_path / f"{'full' if name == OURS else name}.safetensors", encoder, *parts)
    return tmp_path


def load(folder):
    return ablation.load_variants(load_weights(folder / "full.safetensors"))


@pytest.fixture
def fuser(folder, encoder):
    weights = load_weights(folder / "full.safetensors", encoder)
    return Fuser(weights, encoder, torch.device("cpu"))


@pytest.fixture
def pairs(tmp_path):
    rng, made = np.random.default_rng(0), []
    for name, level in (("bright", 0.9), ("dark", 0.1), ("mixed", 0.5)):
        ir = save_image(tmp_path / "ir" / f"{name}.png", level * rng.random((40, 48)))
        vi = save_image(tmp_path / "vi" / f"{name}.png", level * rng.random((40, 48, 3)))
        made.append(Pair("TNO", name, ir, vi))
    return made


def test_variants_lie_beside_the_full_model_in_the_papers_order(folder, fuser):
    variants, left_out = load(folder)
    assert not left_out
    assert [title_of(name) for name in variants] == [
        "w/o CII", "w/o CFF", "w/o CII and CFF", "ours",
    ]  # fmt: skip
    made = ablation.fusers(fuser, variants)
    assert {name: one.weights for name, one in made.items()} == variants
    assert all(one.encoder is fuser.encoder for one in made.values())


def test_trainings_with_other_seeds_of_the_recipe_are_found_and_their_means_compared(
    folder, encoder
):
    save(folder / "without_cii_seed1.safetensors", encoder, False, True)
    save(folder / "full_seed2.safetensors", encoder)
    save(folder / "without_cff_seed1.safetensors", encoder, True, False, of_steps=9)
    (folder / "without_both.safetensors").unlink()
    save(folder / "without_both_seed1.safetensors", encoder, False, False)  # not without a first
    found = ablation.further_seeds(load(folder)[0])
    assert {name: weights.path.stem for name, weights in found.items()} == {
        "without_cii_seed1": "without_cii_seed1", "ours_seed2": "full_seed2",
    }  # fmt: skip
    means = {"ours": 0.6, "ours_seed1": 0.5, "without_cii": 0.4}
    frame = pd.DataFrame([{"method": m, "metric": "qabf", "mean": v} for m, v in means.items()])
    spread = ablation.spread_of_seeds(frame)
    assert spread.loc[("ours", "qabf")].tolist() == pytest.approx([2, 0.55, 0.5, 0.6])
    assert spread.loc[("without_cii", "qabf")].tolist() == [1, 0.4, 0.4, 0.4]


def test_a_variant_that_was_not_trained_is_no_error_and_the_full_model_the_reference(folder):
    for name in ("without_cii", "without_cff"):
        (folder / f"{name}.safetensors").unlink()
    variants, left_out = load(folder)
    assert list(variants) == ["without_both", "ours"]
    assert list(left_out) == ["without_cii", "without_cff"]
    assert left_out["without_cff"].startswith("not trained by this recipe: there is no without_cff")
    with pytest.raises(WeightsError, match="lacks CII or CFF"):
        ablation.load_variants(load_weights(folder / "without_both.safetensors"))
    shipped, left_out = ablation.load_variants(load_weights())
    assert shipped[OURS].path == SHIPPED and "without_both" in shipped
    assert set(shipped) | set(left_out) == set(ablation.VARIANTS)


@pytest.mark.parametrize(
    ("parts", "record", "reason"),
    [
        ((True, False), {"of_steps": 9}, "without_cff.safetensors differs in of_steps"),
        ((True, False), {"config": RECORD["config"] | {"crop": 64}}, "differs in crop"),
        ((True, True), {}, "use_cii=True, use_cff=True, expected True, False"),
        ((True, False), {"config": RECORD["config"] | {"seed": 1}}, ""),
        ((True, False), {"steps": 7}, ""),  # where validation was best
        ((True, False), {"processes": 2}, ""),
    ],
)
def test_weights_of_another_recipe_are_left_out_and_named(folder, encoder, parts, record, reason):
    save(folder / "without_cff.safetensors", encoder, *parts, **record)
    other = ablation.randomise(encoder, torch.Generator().manual_seed(0))
    save(folder / "without_both.safetensors", other, False, False)
    variants, left_out = load(folder)
    assert ("without_cff" in variants) == (not reason)
    assert reason in left_out.get("without_cff", "")
    assert "differs in encoder" in left_out["without_both"]


def test_features_are_replaced_and_only_they(fuser, encoder, pairs):
    seen = list(ablation.replaced_features(fuser, pairs, seed=0))
    assert [(p.name, kind) for p, kind, _ in seen[:5]] == [
        *(("bright", kind) for kind in ablation.FEATURES), ("dark", "real"),
    ]  # fmt: skip
    assert dataclasses.replace(seen[1][2], encoder=encoder) == fuser
    ir, vi = torch.rand(1, 1, 40, 48), torch.rand(1, 3, 40, 48)
    by_kind = {kind: fuse for pair, kind, fuse in seen if pair.name == "mixed"}
    assert torch.equal(by_kind["real"].encoder(ir), encoder(ir))
    other = ablation.features_of(fuser, pairs[0])  # the one after the last
    assert torch.equal(by_kind["other_image"].encoder(vi), other(vi))
    assert not torch.equal(other(ir), other(vi))  # infrared and visible apart
    assert not by_kind["zeros"].encoder(ir).any()
    random = by_kind["random_encoder"].encoder(ir)
    assert random.shape == (1, 8) and random.any() and not torch.equal(random, encoder(ir))
    arrays = np.zeros((40, 48), "f4"), np.ones((40, 48, 3), "f4")
    real, *images = (fuse(*arrays) for fuse in by_kind.values())
    assert all(np.abs(real - image).max() > 0 for image in images)
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
        ("qabf", "ours", 8, 0.6, np.nan), ("qabf", "less", 8, 0.5, 0.01),  # higher is better
        ("qcv", "ours", 8, 300, np.nan), ("qcv", "less", 8, 200, 0.2),  # lower is
        ("scd", "ours", 8, 1.0, np.nan), ("scd", "less", 8, np.nan, np.nan),
        ("viff", "ours", 8, 1.0, np.nan), ("viff", "less", 8, 9.0, 0.001),  # not asked for
    )  # fmt: skip
    counts = ablation.compare_with(frame, "ours", ["qabf", "qcv", "scd"])
    assert counts.loc["less"].to_list() == [1, 1, 1, 0, 1]


def test_differences_are_gains_of_the_full_model_in_percent_for_all_18_cells():
    measured = summary(
        *(row for i, m in enumerate(PAPER) for row in (
            (m, "ours", 8, 2.0, np.nan),
            (m, "without_both", 8, 2.0 + (-1) ** i * 0.1, 0.01 * i),
        ))
    )  # fmt: skip
    found = ablation.find_differences(measured, read_reported(4))
    variants = ["w/o CII", "w/o CFF", "w/o CII and CFF"]
    assert len(found) == 18 and list(found.index.unique("variant")) == variants
    # by hand: (0.6666 − 0.6503) / 0.6666; (343.19 − 327.47) / 327.47, where lower is better
    by_hand = found.loc["w/o CII", "paper %"][["Q_AB/F", "Q_CV"]]
    assert by_hand.to_list() == pytest.approx([2.44524, 4.80044], abs=1e-5)
    # the text, 4.5.2: worse without CFF in all evaluation metrics
    assert (found.loc["w/o CFF", "paper %"] > 0).all()
    assert set(found.loc["w/o CII", "note"]) == {"not trained by this recipe"}
    assert found.loc["w/o CII", "here %"].isna().all()
    both = found.loc["w/o CII and CFF"]
    assert both["here %"].to_list() == pytest.approx([-5, -5, -5, 5, -5, 5])
    assert both["same sign"].to_list() == ["no", "no", "no", "yes", "no", "no"]
    assert both["p"].to_list() == pytest.approx([0.01 * i for i in range(6)])
