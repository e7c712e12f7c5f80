"""mmengine where setuptools brings no pkg_resources: configs with bases of another package, as mmdet's 'mmseg::...'."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segc.frontend import pkg_resources_stand_in as stand_in
from tests.helpers.calls import python

HIDE = """
import importlib.machinery
real = importlib.machinery.PathFinder.find_spec
def without(name, path=None, target=None):
    return None if name.split(".")[0] == "pkg_resources" else real(name, path, target)
importlib.machinery.PathFinder.find_spec = staticmethod(without)
"""


def test_a_config_with_a_base_of_another_package_is_read_without_pkg_resources(tmp_path: Path) -> None:
    pytest.importorskip("mmseg")
    (tmp_path / "config.py").write_text("_base_ = ['mmseg::_base_/models/fcn_r50-d8.py']\n")
    code = f"""
import sys
{HIDE}
try:
    import pkg_resources
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("pkg_resources is not hidden")
from segc.frontend.mmseg_env import import_mmseg
import_mmseg()
from mmengine import Config
from mmengine.utils import get_installed_path, is_installed
config = Config.fromfile(sys.argv[1])
import pkg_resources
print(config.model.type, is_installed("mmsegmentation"), is_installed("no-such-package"), pkg_resources.__spec__.origin)
"""
    done = python(code, tmp_path / "config.py")
    assert done.code == 0, done.err
    assert done.out.split() == ["EncoderDecoder", "True", "False", stand_in.__file__]


def test_a_real_pkg_resources_goes_before_the_stand_in(tmp_path: Path) -> None:
    (tmp_path / "pkg_resources.py").write_text("REAL = True\n")
    code = (
        "from segc.frontend import pkg_resources_stand_in as s; s.install(); s.install(); import pkg_resources, sys; "
    )
    code += "print(pkg_resources.REAL, sum(getattr(f, 'stands_in_for', 0) == s.NAME for f in sys.meta_path))"
    done = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}")
    assert done.out.split() == ["True", "1"], done.err


def test_a_distribution_says_where_it_is_and_what_its_metadata_hold() -> None:
    found = stand_in.get_distribution("numpy")
    assert found.version == np.__version__ and (Path(found.location) / "numpy" / "__init__.py").samefile(np.__file__)
    assert found.has_metadata("METADATA") and "Name: numpy" in found.get_metadata("METADATA")
    assert not found.has_metadata("nothing.txt")
    with pytest.raises(KeyError, match=r"nothing\.txt"):
        found.get_metadata("nothing.txt")
    with pytest.raises(stand_in.DistributionNotFound, match="no-such-package"):
        stand_in.get_distribution("no-such-package")
