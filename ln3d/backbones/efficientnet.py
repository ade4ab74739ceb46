"""EfficientNet-Lite0, a small network of ImageNet's classes: a stand-in where the Inception of FID is not at hand.

The weights are Google's (Apache-2.0) as a Python package carries them, under the names of another implementation; the
network is timm's. What is measured with it carries its name: the figures are no FID.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ln3d.backbones.embeddings import Embedding
from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.backbones.weights import EFFICIENTNET_LITE0

NAME = "efficientnet-lite0"
_MODEL, _SIDE, _GREY = "tf_efficientnet_lite0", 224, (0.5, 0.5, 0.5)


def efficientnet_lite0(device: str = "cpu") -> Embedding:
    """Return the network without its classifier: 1280 means over the picture, an `ImageBackbone`.

    Raises WeightsError where the weights are missing or are others.
    """
    return embedding_of(EFFICIENTNET_LITE0.read_tensors(), EFFICIENTNET_LITE0.sha256, device)


def embedding_of(tensors: Mapping[str, np.ndarray], sha256: str, device: str) -> Embedding:
    """Return the network with these tensors, known by the hash `sha256`."""
    import_torchvision()
    import timm

    network: Any = timm.create_model(_MODEL, pretrained=False)
    network.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()}, strict=True)
    network.reset_classifier(0)
    network = network.eval().requires_grad_(False).to(device)
    return Embedding(NAME, sha256, network.num_features, _SIDE, network, _GREY, _GREY, device)
