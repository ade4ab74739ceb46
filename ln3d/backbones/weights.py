"""Files of pretrained weights: where they are looked for, and what makes sure that they are the right ones."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from ln3d.cache import weights_folder
from ln3d.errors import WeightsError


@dataclass(frozen=True)
class WeightFile:
    """A file that never changes, known by its hash, and the name by which `ln3d fetch` brings it."""

    name: str
    sha256: str
    """Hash of the bytes; for a `.safetensors` file that of its tensors (`tensors_sha256`)."""
    fetch: str

    @property
    def path(self) -> Path:
        """Return its place in the cache."""
        return weights_folder() / self.name

    @property
    def remedy(self) -> str:
        """Return the hint of an error about it."""
        return f"run: ln3d fetch {self.fetch}"

    def read_bytes(self) -> bytes:
        """Return its content once the hash is right; WeightsError where it is missing or another."""
        data = self._content()
        self.check(data)
        return data

    def read_tensors(self) -> dict[str, np.ndarray]:
        """Return the tensors of a safetensors file once their hash is right; WeightsError likewise."""
        return self._parsed(self.read_bytes())

    def check(self, data: bytes) -> None:
        """Raise WeightsError unless `data` is the expected content."""
        if self.name.endswith(".safetensors"):
            found = tensors_sha256(self._parsed(data))
        else:
            found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            what = f"its sha256 is {found[:12]}..., not {self.sha256[:12]}..."
            raise WeightsError(f"{self.path} is not the expected file: {what}", self._replace)

    def _parsed(self, data: bytes) -> dict[str, np.ndarray]:
        try:
            return load(data)
        except SafetensorError as problem:
            raise WeightsError(f"{self.path} is damaged: {problem}", self._replace) from None

    @property
    def _replace(self) -> str:
        return f"{self.remedy} (it replaces the file)"

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise WeightsError(f"the weights {self.name} are not here ({self.path})", self.remedy) from None


INCEPTION = WeightFile(
    "inception-2015-12-05.pt", "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34", "inception"
)
EFFICIENTNET_LITE0 = WeightFile(
    "efficientnet-lite0.safetensors",
    "8235f02549a4b9765dd33a8e72185185e2c48685f8d687178454057f0e76e1ec",
    "efficientnet-lite0",
)
LPIPS = {
    name: WeightFile(f"lpips-{name}.safetensors", sha256, "lpips")
    for name, sha256 in {
        "alex": "cf7ee71c81e20a01c2b5931c14ccf2e5133fd27add0bbeeb61c465d0e18b3d3d",
        "vgg": "643cc1011681fcf0228f465eb2a37010fabbe72da23a7d00280b94092852d333",
    }.items()
}


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Return a hash of names, types, shapes and values, whatever container holds them."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def file_sha256(path: Path, remedy: str) -> str:
    """Return the hash of a file of the user's own; WeightsError with the hint `remedy` where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        raise WeightsError(f"the weights {os.fspath(path)} are not here", remedy) from None
