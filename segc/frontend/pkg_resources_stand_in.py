"""A stand-in for pkg_resources: the three names of it that mmengine uses, on importlib.metadata.

setuptools 81 no longer brings pkg_resources, and mmengine resolves bases of configs like 'mmseg::...' with it.
`install` offers this module under that name to imports that find no other.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from types import ModuleType

NAME = "pkg_resources"


class DistributionNotFound(Exception):  # noqa: N818 - pkg_resources' name
    """No installed distribution has this name."""


class Distribution:
    """An installed distribution. location: the folder that holds its modules."""

    def __init__(self, found: importlib.metadata.Distribution) -> None:
        self._found = found
        self.project_name, self.version = found.metadata["Name"], found.version
        self.location = str(found.locate_file(""))

    def has_metadata(self, name: str) -> bool:
        """Whether there is a metadata file of this name."""
        return self._found.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        """The metadata file of this name. Raises KeyError where there is none."""
        text = self._found.read_text(name)
        if text is None:
            raise KeyError(f"{self.project_name} has no metadata file {name}")
        return text


def get_distribution(name: str) -> Distribution:
    """The installed distribution `name`. Raises DistributionNotFound."""
    try:
        return Distribution(importlib.metadata.distribution(name))
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise DistributionNotFound(f"The '{name}' distribution was not found") from error


class Finder:
    """Finds the stand-in. It comes last in sys.meta_path, so that a real pkg_resources goes before it."""

    stands_in_for = NAME

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The spec of this file under the name pkg_resources; mmengine also reloads the module by it."""
        return spec_from_file_location(NAME, __file__) if name == NAME else None


def install() -> None:
    """Offer the stand-in. A second call changes nothing."""
    if not any(getattr(finder, "stands_in_for", None) == NAME for finder in sys.meta_path):
        sys.meta_path.append(Finder)
