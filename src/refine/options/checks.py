"""Ranges of the knobs."""

from collections.abc import Sequence


def check(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ``ValueError`` naming the knob, its value and what was expected."""
    if not condition:
        raise ValueError(f"{name}={value!r}: expected {expected}")


def check_fractions(owner: object, *names: str) -> None:
    """The named attributes lie in [0, 1]."""
    for name in names:
        value = getattr(owner, name)
        check(0.0 <= value <= 1.0, name, value, "a fraction in [0, 1]")


def check_positive(owner: object, *names: str) -> None:
    """The named attributes are above 0."""
    for name in names:
        value = getattr(owner, name)
        check(value > 0, name, value, "a number above 0")


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """The value is one of the choices."""
    check(value in choices, name, value, "one of " + ", ".join(choices))
