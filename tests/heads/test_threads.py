"""Small networks are trained on one thread, and the caller's setting is given back."""

import pytest
import torch

from heads.threads import MOST_FOR_ONE, threads_for


@pytest.mark.parametrize(("n_products", "inside"), [(MOST_FOR_ONE, 1), (MOST_FOR_ONE + 1, 2)])
def test_threads_for_depends_on_the_step_alone_and_is_given_back(n_products: int, inside: int) -> None:
    """One thread up to the limit, the caller's above it; afterwards the caller's, even after an error."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="inside"), threads_for(n_products):
            assert torch.get_num_threads() == inside
            raise RuntimeError("inside")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
