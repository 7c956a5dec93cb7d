"""Published weights of others: where they are, whether they are what was published, loading them.

``data/published_weights.csv`` lists them. They are pickles from their authors' repositories and,
but for one whose licence allows it, not part of this one: read once, compared with their sha256,
and unpickled as plain tensors (``weights_only``), so that no file can run code.
"""

import csv
import hashlib
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from fusionlib import download
from fusionlib.errors import WeightsError
from fusionlib.files import DATA, USER_DATA
from fusionlib.weights import load_state

LIST = DATA / "published_weights.csv"
RAW = "https://raw.githubusercontent.com"
Renaming = tuple[tuple[str, str], ...]  # (pattern, replacement) of regular expressions


@dataclass(frozen=True)
class WeightsFile:
    """One published file, a row of the list.

    Attributes:
        method: folder below `weights_root`.
        repository: ``owner/name`` on GitHub.
        commit: 40 hex digits; the file at this commit is meant, whatever comes later.
        file: path inside the repository.
        sha256: of the file.
        size: in bytes.
        entry: key of the state dict, where the file holds more than that.
        shipped: the same tensors in this repository, as safetensors, below ``data``; ``sha256``
            and ``size`` are those of this file.
    """

    method: str
    repository: str
    commit: str
    file: str
    sha256: str
    size: str
    entry: str = ""
    shipped: str = ""

    @property
    def url(self) -> str:
        """Where a program gets it."""
        return f"{RAW}/{self.repository}/{self.commit}/{self.file}"

    @property
    def path(self) -> Path:
        """Where it is expected on this machine."""
        own = weights_root() / self.method / Path(self.file).name
        return DATA / self.shipped if self.shipped else own

    def fetch(self, *, offline: bool = False) -> Path:
        """Fetch it to its place, unless it is there and fits; raises DownloadError.

        A shipped one is only looked at; raises WeightsError.
        """
        if self.shipped:
            self.read()
            return self.path
        return download.fetch(self.url, self.path, sha256=self.sha256, offline=offline)

    def read(self) -> bytes:
        """Its content.

        Raises:
            WeightsError: not there, or not what was published; the message says what to do.
        """
        path = self.path
        remedy = (
            "It belongs to this repository: restore it from there."
            if self.shipped
            else f"Run `python -m fusionlib data download --weights {self.method}`, or get "
            f"{self.url} and put it at {path} (FUSIONLIB_WEIGHTS names another folder for all)."
        )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(f"{path} cannot be read ({error.strerror}). {remedy}") from error
        if (actual := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise WeightsError(
                f"{path} is not the published file: {len(data)} bytes, sha256 {actual}; expected "
                f"{self.size} bytes, sha256 {self.sha256}. Remove it. {remedy}"
            )
        return data

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name, without the prefix of parallel training.

        Raises:
            WeightsError: see `read`; or it holds anything but tensors.
        """
        data = self.read()
        try:
            if self.shipped:
                return safetensors.torch.load(data)
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            state = content[self.entry] if self.entry else content
            tensors = {key.removeprefix("module."): value for key, value in state.items()}
            if not all(isinstance(value, Tensor) for value in tensors.values()):
                raise ValueError("expected tensors by name")
            return tensors
        except Exception as error:  # unpickling raises almost anything on damaged files
            raise WeightsError(
                f"{self.path} is refused: it holds more than tensors by name, or is damaged "
                f"({(str(error) or type(error).__name__).splitlines()[0]})"
            ) from error


def listed(method: str) -> tuple[WeightsFile, ...]:
    """The files of a method."""
    with LIST.open(encoding="utf-8", newline="") as file:
        return tuple(WeightsFile(**r) for r in csv.DictReader(file) if r["method"] == method)


def weights_root() -> Path:
    """``$FUSIONLIB_WEIGHTS`` if set, else ``data/weights/published`` in the repository."""
    root = os.environ.get("FUSIONLIB_WEIGHTS") or USER_DATA / "weights" / "published"
    return Path(root).expanduser()


def renamed_key(key: str, renamed: Renaming) -> str:
    """A published name after all (pattern, replacement) pairs, in order."""
    for pattern, replacement in renamed:
        key = re.sub(pattern, replacement, key)
    return key


def load_network(
    net: nn.Module, files: tuple[WeightsFile, ...], renamed: Renaming = ()
) -> nn.Module:
    """Fill a network with published weights; every key and every shape must fit.

    Args:
        net: what to fill.
        files: together they hold all of its tensors.
        renamed: what turns the published names into those of ``net``.

    Returns:
        ``net``, in evaluation mode, without gradients.

    Raises:
        WeightsError: see `WeightsFile.state`; or up to 10 keys that are missing, unexpected or of
            another shape.
    """
    # files older than this counter of BatchNorm, which has no effect, lack it
    state = {k: v for k, v in net.state_dict().items() if k.endswith("num_batches_tracked")}
    for file in files:
        state |= {renamed_key(key, renamed): value for key, value in file.state().items()}
    load_state(net, state, ", ".join(str(file.path) for file in files), type(net).__name__)
    return net.eval().requires_grad_(False)
