"""What users choose of one target by name. Imports nothing: `segc compile --help` lists options at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Option:
    """A setting of one target. flag: it is `--NAME` on the command line, not `--set NAME=VALUE`.

    The flag of a choice between "no" and "yes" takes no value. build: `segc build` has it too.
    """

    name: str
    choices: tuple[str, ...]
    default: str
    summary: str
    flag: bool = False
    build: bool = True

    @property
    def is_switch(self) -> bool:
        """Whether its flag takes no value."""
        return self.choices == ("no", "yes")

    def typed(self, value: str = "") -> str:
        """The option as users type it, with this value."""
        if self.flag:
            return f"--{self.name}" if self.is_switch else f"--{self.name} {value}".rstrip()
        return typed(self.name, value)


def typed(name: str, value: str = "") -> str:
    """An option without a flag as users type it."""
    return f"--set {name}={value}" if value else f"--set {name}"
