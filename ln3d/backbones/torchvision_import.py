"""Importing torchvision where its compiled part does not fit the installed torch.

open_clip and timm import torchvision for its picture transforms. Beside a torch built for the CPU alone the wheel's
compiled operators do not load, and torchvision then fails at import by describing two operators that are not there.
"""

import importlib
import sys

import torch

_OPERATORS = ("nms", "qnms")
_library: list[torch.library.Library] = []  # declarations last as long as the object that made them


def import_torchvision() -> None:
    """Import torchvision, declaring the missing operators if need be; calling those stays torchvision's own error."""
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError as problem:
        if "torchvision::" not in str(problem):
            raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        library.define(f"{operator}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    _library.append(library)
    importlib.import_module("torchvision")
