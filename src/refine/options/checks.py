"""Ranges of the knobs: a field states its default and its range together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from math import inf
from operator import attrgetter
from typing import Any, ClassVar, NamedTuple

_KEPT = object()  # equal to nothing else


class Range(NamedTuple):
    """Values that a knob may have: a test, and a description for error messages."""

    holds: Callable[[Any], bool]
    expected: str


FRACTION = Range(lambda value: 0.0 <= value <= 1.0, "a fraction in [0, 1]")
POSITIVE = Range(lambda value: 0 < value < inf, "a number above 0")
NOT_NEGATIVE = Range(lambda value: 0 <= value < inf, "0 or more")
LIMIT = Range(lambda value: value == -1 or value > 0, "a number above 0, or -1 for no limit")


def between(low: float, high: float) -> Range:
    """A number in ``low .. high``."""
    return Range(lambda value: low <= value <= high, f"a number in {low} .. {high}")


# a damaged checkpoint must not ask for a network that fills the memory
DEPTH = between(0, 64)
CHANNELS = between(1, 16384)


def one_of(choices: Sequence[str]) -> Range:
    """One of these names."""
    return Range(lambda value: value in choices, "one of " + ", ".join(choices))


class Choices:
    """The names that a knob may have: those of this package, and those that others register.

    Iterating gives the former.

    Attributes:
        kind: What they name, for messages.
        added: What others registered, by name.
    """

    def __init__(self, kind: str, *own: str) -> None:
        self.kind = kind
        self.added: dict[str, Any] = {}
        self._own = own

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self.added

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def check_free(self, name: str) -> None:
        """Raise ``ValueError`` if this package has the name itself.

        An added one may be added again, as by the cell of a notebook that runs twice.
        """
        expected = f"another name than {', '.join(self._own)}"
        check(bool(name) and name not in self._own, f"name of a {self.kind}", name, expected)

    @property
    def range(self) -> Range:
        """One of these names."""
        expected = f"one of {', '.join(self._own)}, or one that a module registers"
        fix = "(plugins=[MODULE]; in Python import it first)"
        return Range(lambda value: value in self, f"{expected} {fix}")


def knob(default: Any, range_: Range | None = None, *, rare: bool = False) -> Any:
    """A dataclass field with a default, copied for each owner, and a range; None is allowed.

    A ``rare`` one is younger than some records: see :func:`to_plain`.
    """
    metadata = {"range": range_} | ({"left_out": default} if rare else {})
    if isinstance(default, list | dict | Options):
        return field(default_factory=lambda: deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def to_plain(value: Any) -> Any:
    """Plain containers of a dataclass, of what it holds, too.

    Rare fields are there only where they are not the default, so that records of before such a
    field existed, and what is hashed of them, stay equal.
    """
    if is_dataclass(value) and not isinstance(value, type):
        pairs = ((item, getattr(value, item.name)) for item in fields(value))
        kept = ((i.name, v) for i, v in pairs if i.metadata.get("left_out", _KEPT) != v)
        return {name: to_plain(v) for name, v in kept}
    if isinstance(value, Mapping):
        return {key: to_plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(to_plain, value))
    return value


@dataclass(kw_only=True)
class Options:
    """Base of all options: a value outside its range raises ``ValueError`` with its whole key.

    ``section`` of a subclass is its key in the configuration.
    """

    _section: ClassVar[str]

    def __init_subclass__(cls, section: str) -> None:
        cls._section = section

    def __post_init__(self) -> None:
        for knob_ in fields(self):
            range_, value = knob_.metadata.get("range"), getattr(self, knob_.name)
            if range_ is not None and value is not None:
                self.require(range_.holds(value), knob_.name, range_.expected)

    def require(self, condition: bool, name: str, expected: str) -> None:
        """:func:`check` of the value at a key below this section, possibly with dots."""
        check(condition, f"{self._section}.{name}", attrgetter(name)(self), expected)


def check(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ``ValueError`` with the name of a value, the value and what was expected."""
    if not condition:
        raise ValueError(f"{name}={value!r}: expected {expected}")


def check_fractions(owner: object, *names: str) -> None:
    """The named attributes lie in [0, 1]."""
    for name in names:
        value = getattr(owner, name)
        check(FRACTION.holds(value), name, value, FRACTION.expected)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """The value is one of the choices."""
    check(value in choices, name, value, one_of(choices).expected)
