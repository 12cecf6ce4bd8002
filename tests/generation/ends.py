"""Models that like to end."""

import torch

from megabyte_mm.alphabet import END
from megabyte_mm.models import Megabyte


def favour_end(model: Megabyte) -> None:
    """Raise END's logit by 5, whatever was read: the last norm's bias then points to END's vector alone."""
    assert model.local_stack is not None
    with torch.no_grad():
        bias, table = model.local_stack.norm.bias, model.local_symbols.weight
        assert isinstance(bias, torch.Tensor)
        bias.zero_()
        bias[0] = 1.0
        table[:, 0] = 0.0
        table[END, 0] = 5.0
