"""What is wrong with an argument, for whoever called a function and for whoever typed an option."""

from __future__ import annotations


class ArgumentValueError(ValueError):
    """An argument that does not fit: its name as the function has it, and what is told of it; typed, it is --name."""

    def __init__(self, name: str, told: str) -> None:
        super().__init__(f"{name} {told}")


def at_least_one(**counts: int | None) -> None:
    """Raise ArgumentValueError for an argument that counts something and says 0 or less; None is fine."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ArgumentValueError(name, f"is {count}; it must be at least 1")
