"""What the options that several commands share mean."""

from __future__ import annotations

from megabyte_mm.checkpoint import Bundle


def at_least_one(**counts: int | None) -> None:
    """Raise ValueError for an option that counts something and says 0 or less; None is fine."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"--{name} is {count}; it must be at least 1")


def pick_device(name: str) -> str:
    """`auto` is the first accelerator there is. Raises ValueError for one that this machine or torch lacks."""
    import torch

    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: not available here ({str(error).splitlines()[0]})") from error
    return name


def condition_number(bundle: Bundle, name: str) -> int:
    """The number of the class that --condition names. Raises ValueError for one that the model does not know."""
    classes = ", ".join(bundle.conditions[1:])
    if name not in bundle.conditions:
        known = f"it knows {classes}" if classes else "it was trained without classes"
        raise ValueError(f"--condition {name}: unknown to this model; {known}")
    return bundle.conditions.index(name)
