"""What evaluations have worked out already, one file each, named by a hash of everything it depends on.

So several metrics share samples, pictures and features, and an interrupted evaluation goes on where it was. A file
that is damaged counts as missing and is made again.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ln3d.artifacts.manifest import fingerprint
from ln3d.data.shard_files import replace_file

Pictures = UInt8[np.ndarray, "v h w 3"]
_DIGEST = "sha256"  # of the numbers, in the header of the file itself


class Store:
    """Tensors and pictures below one folder, `<kind>/<two letters>/<hash>`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def tensors(self, kind: str, key: object, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the tensors kept under `key`, or those that `make` returns, which are kept from now on."""
        kept = self.kept_tensors(kind, key)
        if kept is None:
            kept = make()
            self.keep_tensors(kind, key, kept)
        return kept

    def kept_tensors(self, kind: str, key: object) -> dict[str, Tensor] | None:
        """Return the tensors kept under `key`, None where there are none or their bytes have changed."""
        data = self._read(self._path(kind, key, "safetensors"))
        try:
            return None if data is None or not _is_whole(data) else load(data)
        except (SafetensorError, ValueError):
            return None

    def keep_tensors(self, kind: str, key: object, tensors: dict[str, Tensor]) -> None:
        """Keep `tensors` under `key`."""
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        digest = hashlib.sha256(_body(save(plain))).hexdigest()
        self._write(self._path(kind, key, "safetensors"), save(plain, metadata={_DIGEST: digest}))

    def kept_pictures(self, key: object) -> Pictures | None:
        """Return the views kept under `key`, None where there are none or they cannot be read."""
        data = self._read(self._path("pictures", key, "png"))
        if data is None:
            return None
        try:
            with Image.open(io.BytesIO(data), formats=["PNG"]) as strip:
                pixels, digest = np.array(strip), strip.info.get(_DIGEST)
        except (OSError, SyntaxError, ValueError, zlib.error):
            return None
        if pixels.ndim != 3 or len(pixels) % pixels.shape[1]:
            return None
        views = pixels.reshape(-1, pixels.shape[1], pixels.shape[1], 3)
        return views if picture_hash(views) == digest else None

    def pictures(self, key: object, make: Callable[[], Pictures] | None = None) -> Pictures:
        """Return the views kept under `key`, or those that `make` returns; KeyError where there is neither."""
        kept = self.kept_pictures(key)
        if kept is not None:
            return kept
        if make is None:
            raise KeyError(key)
        views = make()
        self.keep_pictures(key, views)
        return views

    def keep_pictures(self, key: object, views: Pictures) -> None:
        """Keep square `views` under `key`: a strip of them, one below the other, as a PNG."""
        buffer, info = io.BytesIO(), PngInfo()
        info.add_text(_DIGEST, picture_hash(views))
        Image.fromarray(views.reshape(-1, *views.shape[2:])).save(buffer, "PNG", compress_level=3, pnginfo=info)
        self._write(self._path("pictures", key, "png"), buffer.getvalue())

    def _path(self, kind: str, key: object, suffix: str) -> Path:
        name = fingerprint(key)
        return self.root / kind / name[:2] / f"{name}.{suffix}"

    @staticmethod
    def _read(path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)


def _is_whole(data: bytes) -> bool:
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    digest: str = header.get("__metadata__", {}).get(_DIGEST, "")
    return digest == hashlib.sha256(_body(data)).hexdigest()


def _body(data: bytes) -> bytes:
    """Return the part of a safetensors file behind its header."""
    return data[8 + int.from_bytes(data[:8], "little") :]


def picture_hash(views: Pictures) -> str:
    """Return the sha256 of the pixels, so that equal pictures have equal features, wherever they come from."""
    return hashlib.sha256(repr(views.shape).encode() + np.ascontiguousarray(views).tobytes()).hexdigest()


def features_of(
    views: Pictures, name: str, sha256: str, store: Store, compute: Callable[[Pictures], np.ndarray]
) -> np.ndarray:
    """Return one feature vector per picture (v, d), computed by the network `name` unless it has been before."""
    key = [name, sha256, picture_hash(views)]
    made = store.tensors("features", key, lambda: {"features": torch.from_numpy(compute(views).astype(np.float32))})
    return made["features"].numpy()
