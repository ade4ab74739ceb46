"""Pickles of arrays are read as data: right where they are plain, refused where they are anything else."""

import os
import pickle  # noqa: TID251 - to write what the reader must read, or refuse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ln3d.backbones.foreign import lpips_tensors, read_numpy_pickle
from ln3d.errors import WeightsError


def array(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def flax_lpips() -> dict[str, Any]:
    """Return LPIPS on a network of two convolutions, laid out as Flax lays it out."""
    trunk = {f"Conv_{i}": {"kernel": array(3, 2, i + 1, 4, seed=i), "bias": array(4, seed=i + 9)} for i in range(2)}
    heads = {f"NetLinLayer_{i}": {"Conv_0": {"kernel": array(1, 1, 4, 1, seed=i + 20)}} for i in range(2)}
    return {"Net_0": trunk, **heads}


def test_arrays_come_back_bit_for_bit() -> None:
    tree = {
        "a": {"b": array(2, 3, 4), "c": array(5)},
        "columns": np.asfortranarray(array(3, 4)),
        "view": array(6, 4)[::2, 1:],
        "number": array().reshape(()),
        "empty": array(0, 3),
        "list": [array(2)],
        "tuple": (array(2), (1, 300, 70000, -5, 0.5), True, None, "text", b"bytes"),
    }
    found = read_numpy_pickle(pickle.dumps(tree, protocol=3))
    assert found.keys() == tree.keys() and found["tuple"][1:] == tree["tuple"][1:]
    for ours, real in [
        (found["a"]["b"], tree["a"]["b"]),
        (found["a"]["c"], tree["a"]["c"]),
        (found["tuple"][0], tree["tuple"][0]),
        (found["list"][0], tree["list"][0]),
        *((found[name], tree[name]) for name in ("columns", "view", "number", "empty")),
    ]:
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, real)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("trapped",)


class Disguised:
    """Calls an allowed name in a way that NumPy would not."""

    def __reduce__(self) -> tuple[Any, ...]:
        return np.ndarray, ((2,),)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("content", [Trap(), {"x": Trap()}, {1, 2}, {1j: 2}, Path("x"), np.float64(1), Disguised()])
def test_all_else_is_refused_and_nothing_runs(content: object, protocol: int, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not read"):
        read_numpy_pickle(pickle.dumps(content, protocol=protocol))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<i4", "S4"])
def test_other_types_are_refused(kind: str) -> None:
    with pytest.raises(WeightsError, match="only float32|is not read"):
        read_numpy_pickle(pickle.dumps({"x": np.zeros(3, kind)}, protocol=3))


def test_every_truncated_file_is_refused() -> None:
    whole = pickle.dumps({"a": array(2, 2), "b": (array(3), 1)}, protocol=3)
    for length in range(len(whole)):
        with pytest.raises(WeightsError):
            read_numpy_pickle(whole[:length])


def test_a_changed_byte_never_does_worse_than_a_named_error() -> None:
    whole = bytearray(pickle.dumps({"a": array(2, 2), "b": (array(3), 1)}, protocol=3))
    for position in range(len(whole)):
        for change in (1, 0x80, 0xFF):
            changed = whole.copy()
            changed[position] ^= change
            try:
                read_numpy_pickle(bytes(changed))
            except WeightsError:
                pass


def test_lpips_is_turned_to_the_layout_of_torch() -> None:
    tree = flax_lpips()
    tensors = lpips_tensors(pickle.dumps(tree, protocol=3))
    assert sorted(tensors) == ["conv.0.bias", "conv.0.weight", "conv.1.bias", "conv.1.weight", "head.0", "head.1"]
    assert tensors["conv.1.weight"].shape == (4, 2, 3, 2)  # out, in, rows, columns
    assert tensors["conv.1.weight"][3, 1, 2, 0] == tree["Net_0"]["Conv_1"]["kernel"][2, 0, 1, 3]
    np.testing.assert_array_equal(tensors["head.1"], tree["NetLinLayer_1"]["Conv_0"]["kernel"][0, 0, :, 0])


@pytest.mark.parametrize("tree", [{}, 3, {"a": {}, "b": {}}, {"Net_0": {"Conv_0": {}}}, {"Net_0": {"Dense_0": {}}}])
def test_another_layout_is_refused(tree: Any) -> None:
    with pytest.raises(WeightsError, match="not laid out"):
        lpips_tensors(pickle.dumps(tree, protocol=3))
