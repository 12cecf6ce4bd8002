"""Sample a symbol for each row and note it, in one kernel of Triton: the same as `sample` and `next_symbols`.

Legend: B rows, P symbols in a patch, V the 257 symbols.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from megabyte_mm.alphabet import END
from megabyte_mm.generation.patches import NO_SYMBOL


def choose(
    logits_BV: Tensor,
    temperature_1: Tensor,
    uniform_B: Tensor,
    forced_B: Tensor,
    left_B: Tensor,
    finished_B: Tensor,
    read_B: Tensor,
    new_B: Tensor,
    position: int,
    allow_end: bool,
) -> None:
    """Write the symbols that rows read, and the new ones, and which rows are finished. All are contiguous.

    temperature: float64, since numbers of Python reach a kernel as float32.
    """
    rows, symbols = logits_BV.shape
    with torch.cuda.device_of(logits_BV):
        _choose[(rows,)](
            logits_BV,
            temperature_1,
            uniform_B,
            forced_B,
            left_B,
            finished_B,
            read_B,
            new_B,
            position,
            SYMBOLS=symbols,
            KEPT=symbols if allow_end else END,
            END=END,
            NO_SYMBOL=NO_SYMBOL,
            ALLOW_END=allow_end,
            COLUMNS=triton.next_power_of_2(symbols),
        )


@triton.jit(do_not_specialize=["position"])
def _choose(
    logits_pointer,
    temperature_pointer,
    uniform_pointer,
    forced_pointer,
    left_pointer,
    finished_pointer,
    read_pointer,
    new_pointer,
    position,
    SYMBOLS: tl.constexpr,
    KEPT: tl.constexpr,
    END: tl.constexpr,
    NO_SYMBOL: tl.constexpr,
    ALLOW_END: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    there = column < KEPT
    logits = tl.load(logits_pointer + row * SYMBOLS + column, there, float("-inf")).to(tl.float64)
    weights = tl.exp((logits - tl.max(logits, 0)) / tl.load(temperature_pointer))
    cumulative = tl.cumsum(weights / tl.sum(weights, 0), 0)
    target = tl.load(uniform_pointer + row) * tl.max(tl.where(there, cumulative, 0.0), 0)
    # With logits that are no numbers no sum exceeds the target: no symbol, as of `sample`.
    sampled = tl.sum((there & ((cumulative > target) == 0)).to(tl.int64), 0)
    sampled = tl.where(sampled < KEPT, sampled, SYMBOLS)
    forced = tl.load(forced_pointer + row)
    finished = tl.load(finished_pointer + row) != 0
    read = tl.where(forced != NO_SYMBOL, forced, sampled)
    new = tl.where(forced != NO_SYMBOL, NO_SYMBOL, sampled)
    read = tl.where(finished, END, read)
    new = tl.where(finished, NO_SYMBOL, new)
    finished = finished | (tl.load(left_pointer + row) == position + 1)
    if ALLOW_END:
        finished = finished | (new == END)
    tl.store(read_pointer + row, read)
    tl.store(new_pointer + row, new)
    tl.store(finished_pointer + row, finished)
