"""What a model will cost, from its geometry alone: parameters, operations, memory, attention, generation.

Nothing is run, so that a model on torch's meta device, which holds no numbers, is measured as any other.
"""

from megabyte_mm.costs.memory import activation_bytes, state_bytes
from megabyte_mm.costs.parts import Part, parts
from megabyte_mm.costs.reach import Attention, attention, serial_layers
from megabyte_mm.costs.report import Costs, costs_of, table

__all__ = [
    "Attention",
    "Costs",
    "Part",
    "activation_bytes",
    "attention",
    "costs_of",
    "parts",
    "serial_layers",
    "state_bytes",
    "table",
]
