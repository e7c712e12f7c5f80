"""Which extra of segc brings a package, and the exact command that installs it."""

from __future__ import annotations

from segc.errors import Code, MissingPackageError

EXTRAS = {
    "compiler": ("onnx", "onnx_graphsurgeon", "networkx", "google"),
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "ncnn": ("ncnn",),
    "mmseg": ("torch", "onnxscript", "mmengine", "mmcv", "mmseg"),
    "simplify": ("onnxsim",),
    "fast": ("numba",),
    "sign": ("minisign",),
    "sbom": ("cyclonedx",),
    "geo": ("rasterio",),
    "video": ("av",),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
}
_CORE = ("numpy", "cv2", "PIL", "rich")
_EXTRA_OF = {module: extra for extra, modules in EXTRAS.items() for module in modules}


def install(extra: str) -> str:
    """The exact command that installs an extra of segc."""
    return f"pip install 'segc[{extra}]'"


def missing(error: ImportError) -> MissingPackageError | None:
    """The error that users see when a module of a package segc needs is not there; None for any other module."""
    module = (error.name or "").split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or module not in (*_EXTRA_OF, *_CORE):
        return None
    extra = _EXTRA_OF.get(module)
    what = "segc's compiler is not installed" if extra == "compiler" else f"the package '{module}' is not installed"
    so = "pip install --force-reinstall segc" if extra is None else install(extra)
    return MissingPackageError(what, code=Code.RUNTIME_MISSING, because=f"there is no module '{module}'", so=so)
