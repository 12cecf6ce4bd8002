"""Part `paper`: long sequences by MEGABYTE and by a Transformer that attends to all of them or to their last bytes.

The paper generates 8192 bytes by a MEGABYTE whose global model has far more parameters than the Transformer
(section 6.4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.decode.groups import Limits, Result, measure
from benchmarks.decode.implementations import Implementation, Spans, on_device
from benchmarks.decode.models import meta_model, paper_pair, sizes
from benchmarks.harness.report import Cell, Table
from benchmarks.harness.timing import Conditions
from megabyte_mm.models import Execution, ModelConfig, Precision

TITLE = "Long sequences"
COLUMNS = (
    *("implementation", "sizes", "precision", "parameters", "training FLOP/byte", "bytes/s", "spread"),
    *("time / MEGABYTE", "seconds for all"),
)
MEGABYTE = "MEGABYTE"
PRECISIONS: tuple[Precision | None, ...] = (None, "bfloat16", "int8")


@dataclass(frozen=True)
class LongSequence:
    """What `paper` measures.

    Args:
        length: Bytes of a sequence.
        window: Bytes that the limited Transformer attends to.
        spans: Number of spans, evenly spread over the sequence, that stand for it.
        span: Bytes of each.
        whole: Generate whole sequences instead, from nothing to their end.
        tiny: Tiny models.
    """

    length: int
    window: int
    spans: int
    span: int
    whole: bool = False
    tiny: bool = False


def measure_paper(sequence: LongSequence, conditions: Conditions, limits: Limits) -> list[Table]:
    """A row for each of the three models, in each precision."""
    table = Table(TITLE, COLUMNS)
    for precision in PRECISIONS:
        models = three_models(sequence, on_device(conditions.device.type, Execution("native", precision)))
        results, left_out = measure(models, MEGABYTE, conditions, limits)
        table.rows += [_row(result, sequence) for result in results]
        table.notes += [f"{one.name} is left out, {precision or 'float32'}: too large." for one in left_out]
    method = (
        "Whole sequences are generated, from nothing."
        if sequence.whole
        else f"{sequence.spans} spans of {sequence.span} bytes stand for a sequence, evenly spread over it; for the "
        f"limited Transformer, {sequence.window // 2} bytes, in which its window slides once."
    )
    table.notes.append(f"One row of {sequence.length} bytes. {method}")
    return [table]


def three_models(sequence: LongSequence, execution: Execution) -> list[Implementation]:
    """MEGABYTE, the Transformer that attends to all bytes, and the one that attends to the last bytes alone."""
    megabyte, transformer = paper_pair(sequence.length, sequence.tiny)
    window = sequence.window
    if sequence.whole:
        spread = sliding = Spans((0,), sequence.length, timed_prefill=True)
    else:
        spread = spread_over(sequence, megabyte.patch_size or 1)
        sliding = Spans((window // 2,), window - window // 2)
    models: list[tuple[str, ModelConfig, Spans]] = [
        (MEGABYTE, megabyte, spread),
        ("Transformer", transformer, spread),
        (f"Transformer, last {window}", replace(transformer, max_len=window), sliding),
    ]
    return [Implementation(name, config, 1, spans, execution) for name, config, spans in models]


def spread_over(sequence: LongSequence, patch_size: int) -> Spans:
    """Spans in the middle of equal parts of the sequence, each from the start of a patch."""
    part = sequence.length / sequence.spans
    starts = [
        int((number + 0.5) * part - sequence.span / 2) // patch_size * patch_size for number in range(sequence.spans)
    ]
    return Spans(tuple(max(start, 0) for start in starts), sequence.span)


def _row(result: Result, sequence: LongSequence) -> tuple[Cell, ...]:
    one = result.implementation
    model = (sizes(one.config), one.execution.precision or "float32", result.parameters)
    flops = meta_model(one.config).training_flops_per_byte()
    return (one.name, *model, flops, result.rate, result.spread, result.relative, sequence.length * result.seconds)
