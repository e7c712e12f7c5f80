"""The bill of materials of a bundle, as CycloneDX 1.6 in JSON: what it was made from, holds and needs.

It is written from the manifest alone, so the same bundle always gives the same bytes.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from segc import targets
from segc.bundle.canonical_json import canonical, sha256_of
from segc.bundle.manifest import NAME, Manifest
from segc.errors import Code, MissingPackageError
from segc.packages import install

_CLOCK = "timestamp"  # of the metadata: the library takes the time of the run


def bill_of_materials(manifest: Manifest) -> str:
    """The text of the document. Raises MissingPackageError."""
    try:
        output = import_module("cyclonedx.output.json")
        model, component = import_module("cyclonedx.model"), import_module("cyclonedx.model.component")
        bom, tool = import_module("cyclonedx.model.bom"), import_module("cyclonedx.model.tool")
    except ImportError as error:
        raise MissingPackageError(
            "a bill of materials needs the package 'cyclonedx-python-lib'", code=Code.OPTIONAL_PACKAGE,
            because=str(error), so=install("sbom"),
        ) from error  # fmt: skip
    makes = _Components(model, component)
    digest = sha256_of(canonical(manifest.to_json()))
    bundle = makes.component("MACHINE_LEARNING_MODEL", manifest.source.name, version=digest[:16], sha256=digest)
    tools = tool.ToolRepository(components=[makes.component("APPLICATION", "segc", manifest.segc)])
    content = bom.Bom(
        serial_number=uuid.UUID(hex=digest[:32], version=4),
        metadata=bom.BomMetaData(component=bundle, tools=tools),
        components=[*_materials(manifest, makes), *_files(manifest, makes), *_runtimes(manifest, makes)],
    )
    content.register_dependency(bundle, content.components)
    document = json.loads(output.JsonV1Dot6(content).output_as_string())
    document["metadata"].pop(_CLOCK, None)
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


class _Components:
    """Makes components; the library is imported only here."""

    def __init__(self, model: Any, component: Any) -> None:
        self._model, self._component = model, component

    def component(self, kind: str, name: str, version: str | None = None, sha256: str | None = None) -> Any:
        """kind: a name of ComponentType."""
        hashes = [self._model.HashType(alg=self._model.HashAlgorithm.SHA_256, content=sha256)] if sha256 else []
        return self._component.Component(
            type=getattr(self._component.ComponentType, kind), name=name, version=version, hashes=hashes,
            bom_ref=f"{kind.lower()}:{name}",
        )  # fmt: skip

    def package(self, distribution: str, version: str) -> Any:
        """A package of the Python Package Index."""
        made = self.component("LIBRARY", distribution, version)
        made.purl = import_module("packageurl").PackageURL("pypi", None, distribution, version)
        return made


def _materials(manifest: Manifest, makes: _Components) -> Iterator[Any]:
    """The source and the checkpoint, by digest."""
    source = manifest.source
    yield makes.component("DATA", f"source {source.name}", sha256=source.sha256)
    if source.checkpoint is not None:
        yield makes.component("DATA", f"checkpoint {source.checkpoint.name}", sha256=source.checkpoint.sha256)


def _files(manifest: Manifest, makes: _Components) -> Iterator[Any]:
    yield makes.component("FILE", NAME, sha256=sha256_of(canonical(manifest.to_json())))
    for name, record in manifest.files.items():
        yield makes.component("FILE", name, sha256=record.sha256)


def _runtimes(manifest: Manifest, makes: _Components) -> Iterator[Any]:
    """The runtimes that the engine, or each segment of a hybrid, was compiled with."""
    used = {(part.target, part.runtime) for part in manifest.segments} or {
        (manifest.target.name, manifest.target.runtime)
    }
    for name, version in sorted(used):
        package = targets.runtime(name).package if name in targets.runtime_names() else None
        yield (
            makes.component("LIBRARY", name, version)
            if package is None
            else makes.package(package.distribution, version)
        )
