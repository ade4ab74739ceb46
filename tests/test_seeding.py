"""Random numbers as pure functions of their key."""

import numpy as np
import torch

from ln3d.seeding import generator, key_seed, numpy_generator


def test_a_key_always_gives_the_same_numbers_and_every_part_counts() -> None:
    assert key_seed(0, 7, "noise") == key_seed(0, 7, "noise") == 2112094019300993462
    keys = [(0, 7, "noise"), (1, 7, "noise"), (0, 8, "noise"), (0, 7, "views"), (0, 7), (7, 0, "noise"), (0, "7noise")]
    assert len({key_seed(*key) for key in keys}) == len(keys)
    assert all(0 <= key_seed(*key) < 2**63 for key in keys)


def test_generators_follow_their_key_and_leave_the_global_state_alone() -> None:
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first, again, other = (torch.rand(4, generator=generator("a", n)) for n in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert numpy_generator("a", 1).random() == numpy_generator("a", 1).random() != numpy_generator("a", 2).random()
    assert torch.equal(torch_state, torch.random.get_rng_state())
    assert (numpy_state == np.random.get_state()[1]).all()
