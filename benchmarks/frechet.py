"""Features to FID at Inception's width: `frechet_distance` against torch-fidelity.

    python benchmarks/frechet.py [--samples 2000] [--width 2048] [--repeats 3]

Both start from the same float64 features of both sides and take turns; the best time of each counts. torch-fidelity
goes by its own two functions, from features to statistics and from statistics to the metric. The results must be equal
to 1e-6. With more samples than features both spend their time on the two covariances, and the ratio falls. The last
line is JSON. Needs the package torch-fidelity.
"""

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from ln3d.backbones.torchvision_import import import_torchvision
from ln3d.metrics.frechet import frechet_distance

_TOLERANCE = 1e-6


def features(samples: int, width: int, seed: int, offset: float) -> np.ndarray:
    """Return correlated features, rectified and averaged, as those before Inception's classifier are."""
    mix = np.random.default_rng(0).normal(size=(width, width)) * np.linspace(1, 0.05, width)[:, None] / width**0.5
    return np.maximum(np.random.default_rng(seed).normal(size=(samples, width)) @ mix + offset, 0)


def by_torch_fidelity(a: np.ndarray, b: np.ndarray) -> float:
    """Return the peer's FID."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_torchvision()
        from torch_fidelity import metric_fid

    statistics = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
    return float(metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"])


def timed(distance: Callable[[np.ndarray, np.ndarray], float], a: np.ndarray, b: np.ndarray) -> tuple[float, ...]:
    """Return wall-clock time, processor time and value."""
    start, used = time.perf_counter(), time.process_time()
    value = distance(a, b)
    return time.perf_counter() - start, time.process_time() - used, value


def main() -> None:
    """Time both, compare the results, print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2000, help="on each side: 100 objects from 20 sides")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    a, b = (features(options.samples, options.width, seed, offset) for seed, offset in ((1, 0.0), (2, 0.1)))
    peers = {"ln3d": frechet_distance, "torch_fidelity": by_torch_fidelity}
    for distance in peers.values():
        distance(a[:20, :8], b[:20, :8])  # imports
    runs = {name: [] for name in peers}
    for _ in range(options.repeats):
        for name, distance in peers.items():
            runs[name].append(timed(distance, a, b))
    values = {name: found[0][2] for name, found in runs.items()}
    if not math.isclose(values["ln3d"], values["torch_fidelity"], rel_tol=_TOLERANCE):
        raise SystemExit(f"the results differ: {values}")
    wall, used = ({name: min(run[i] for run in found) for name, found in runs.items()} for i in (0, 1))
    result = {
        "benchmark": "frechet",
        "samples": [options.samples] * 2,
        "width": options.width,
        "value": values["ln3d"],
        "difference": abs(values["torch_fidelity"] / values["ln3d"] - 1),
        "seconds": {name: round(value, 3) for name, value in wall.items()},
        "processor_seconds": {name: round(value, 3) for name, value in used.items()},
        "ratios": {"torch_fidelity": round(wall["torch_fidelity"] / wall["ln3d"], 2)},
        "processor_ratios": {"torch_fidelity": round(used["torch_fidelity"] / used["ln3d"], 2)},
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
