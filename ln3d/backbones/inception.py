"""The Inception-v3 that FID and KID are defined by: TensorFlow's of 2015-12-05, without its classifier.

Resizing is clean-fid's, and so is the range: (x - 128) / 128 for x in [0, 255].
"""

import io
import warnings

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float32, UInt8

from ln3d.backbones.pixels import resized_clean
from ln3d.backbones.weights import INCEPTION

_BATCH = 32


class Inception:
    """The Inception of FID, frozen; an `ImageBackbone`."""

    name = "inception"
    sha256 = INCEPTION.sha256
    width = 2048
    resolution = 299

    def __init__(self, device: str = "cpu") -> None:
        """Open the fetched file; WeightsError where it is missing or is another one."""
        # TorchScript can hold code. These very bytes have just been compared with a hash that is written in the
        # program, so they are the one known file and nothing that somebody put in its place.
        data = io.BytesIO(INCEPTION.read_bytes())
        with warnings.catch_warnings():  # newer PyTorch deprecates TorchScript, but that is what the file is
            warnings.simplefilter("ignore", FutureWarning)
            self._network = torch.jit.load(data, map_location=device).eval()
        self._device = device

    @torch.inference_mode()
    def features(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Return (n, 2048) features of sRGB pictures of any size."""
        out = np.empty((len(images), self.width), dtype=np.float32)
        for start in range(0, len(images), _BATCH):
            pixels = torch.from_numpy(resized_clean(images[start : start + _BATCH], self.resolution))
            pixels = rearrange(pixels, "b h w c -> b c h w").to(self._device)
            out[start : start + _BATCH] = self._network((pixels - 128) / 128).flatten(1).cpu().numpy()
        return out
