"""Weights on disk: safetensors with config, encoder and training record; checked when loaded.

``name.safetensors`` holds tensors and metadata, ``name.json`` beside it the same metadata for
people and the sha256 of the former, because safetensors loads a flipped byte silently.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fusionlib.encoder import ImageEncoder
from fusionlib.errors import WeightsError
from fusionlib.files import DATA, file_sha256, write_atomically
from fusionlib.network import FusionNet, NetworkConfig

SHIPPED = DATA / "weights" / "full.safetensors"
LISTED = 10  # keys an error message spells out
KEYS = ("encoder", "encoder_title", "record", "config")


@dataclass(frozen=True)
class Weights:
    """A loaded network and where it comes from.

    Attributes:
        net: in evaluation mode, on the CPU.
        path: file it was read from.
        sha256: of that file.
        encoder: name of the image encoder it was trained with.
        encoder_title: what captions call that encoder.
        record: how it was trained (data, steps, seed, losses, versions).
    """

    net: FusionNet
    path: Path
    sha256: str
    encoder: str
    encoder_title: str
    record: dict[str, Any]

    @property
    def steps(self) -> int:
        """Optimizer steps in all, those of the weights it was started from among them."""
        steps, record = 0, self.record
        while record:
            steps += record["steps"]
            record = (record.get("init") or {}).get("record")
        return steps


def save_weights(
    path: Path | str,
    net: FusionNet,
    encoder: ImageEncoder,
    record: dict[str, Any],
    machine: dict[str, Any] | None = None,
) -> Path:
    """Write a network with everything needed to use it again.

    Args:
        path: ``….safetensors``.
        net: what to save.
        encoder: the image encoder it was trained with.
        record: JSON-serialisable account of the training.
        machine: its name, time and the like: written beside the weights, not into them, so that
            equal trainings make equal files.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are saved as .safetensors")
    metadata = {
        "encoder": encoder.name,
        "encoder_title": encoder.title,
        "encoder_fingerprint": encoder.fingerprint,
        "config": dataclasses.asdict(net.config),
        "record": record,
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    data = save(tensors, {"record": json.dumps(metadata)})  # one key: safetensors shuffles several
    digest = hashlib.sha256(data).hexdigest()
    described = {"file": path.name, "sha256": digest, **metadata, **(machine or {})}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    write_atomically(path.with_suffix(".json"), (json.dumps(described, indent=1) + "\n").encode())
    return path


def load_weights(path: Path | str | None = None, encoder: ImageEncoder | None = None) -> Weights:
    """Read weights and check that they are whole and fit this network and encoder.

    Args:
        path: ``….safetensors`` with its ``.json`` beside it; None for the shipped ones.
        encoder: the image encoder they will be used with; None skips that check (for looking at
            the record, or for finding out which encoder to load).

    Raises:
        WeightsError: missing, damaged, made for another network, or trained with another encoder.
    """
    path = Path(path or SHIPPED).expanduser()
    digest = _verified_digest(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = _unpacked(file.metadata())
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        name, title, record, stored = (metadata[key] for key in KEYS)
        config = NetworkConfig(**stored)
    except (SafetensorError, OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: not a weights file of this project ({error!r})") from error
    if encoder is not None and encoder.fingerprint != metadata.get("encoder_fingerprint"):
        raise WeightsError(
            f"{path} was trained with encoder {name!r} ({title}) and cannot be used with "
            f"{encoder.name!r} ({encoder.title}, other weights or settings): pass "
            f"--encoder {name}, or --weights trained with {encoder.name!r} "
            f"(python -m fusionlib train --encoder {encoder.name})"
        )
    net = FusionNet(config)
    state = {key.removeprefix("module."): value for key, value in tensors.items()}
    load_state(net, state, path, config)
    return Weights(net.eval(), path, digest, name, title, record)


def load_state(net: nn.Module, state: dict[str, Tensor], source: object, target: object) -> None:
    """Fill a network; every key and every shape must fit.

    Raises:
        WeightsError: ``source`` does not fit ``target``, with up to ten keys of each kind that are
            missing, unexpected or of another shape.
    """
    own = net.state_dict()
    problems = {
        "missing": own.keys() - state.keys(),
        "unexpected": state.keys() - own.keys(),
        "of other shape": {k for k in own.keys() & state.keys() if own[k].shape != state[k].shape},
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(keys)} {kind}: {', '.join(sorted(keys)[:LISTED])}"
            for kind, keys in problems.items()
            if keys
        )
        raise WeightsError(f"{source} does not fit {target}: {listed}")
    net.load_state_dict(state)


def _unpacked(metadata: dict[str, str]) -> dict[str, Any]:
    """Metadata as `save_weights` got it."""
    record = json.loads(metadata["record"])
    if "config" not in metadata:
        return record
    # as files were written first: five keys, two of them JSON
    return metadata | {"config": json.loads(metadata["config"]), "record": record}


def _verified_digest(path: Path) -> str:
    if path.suffix != ".safetensors" or not path.is_file():
        raise WeightsError(
            f"{path}: no weights file of this project; `fusionlib train` writes best.safetensors "
            f"and last.safetensors (checkpoint.pt is there to go on training)"
        )
    described = path.with_suffix(".json")
    try:
        expected = json.loads(described.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{described}, which holds the checksum of {path.name}, is missing or damaged; copy "
            f"both files together"
        ) from error
    actual = file_sha256(path)
    if actual != expected:
        raise WeightsError(f"{path} is damaged: sha256 {actual}, expected {expected}")
    return actual
