"""The web application: routes, and what errors become on the wire."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Literal

import anyio
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from segc import __version__
from segc.errors import Code, SegcError, ShapeError, UsageError
from segc.runtime.engine import Engine
from segc.serving.answers import Answer, answer
from segc.serving.gate import BusyError, Gate, LateError
from segc.serving.metrics import Metrics

Kind = Literal["mask", "overlay", "rle"]
_LATER = {"Retry-After": "1"}
_DESCRIPTION = """Send an image file as the body of a POST request; the answer is the mask.

    curl --data-binary @photo.jpg http://127.0.0.1:8000/segment -o mask.png
"""
_BODY = {"required": True, "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}}
_STATUSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}, "application/json": {}}, "description": "The mask."},
    400: {"description": "The body is no image that can be decoded."},
    404: {"description": "There is no model of that name."},
    408: {"description": "The body came too slowly."},
    413: {"description": "The body has too many bytes, or the image too many pixels."},
    422: {"description": "The model does not take images of this size or kind."},
    429: {"description": "Too many requests are waiting; Retry-After says when to come back."},
    503: {"description": "The request waited too long, or memory ran out."},
}


@dataclass(frozen=True)
class Limits:
    """bytes: of a body. pixels: of an image. seconds: a request may wait, and its body may take."""

    bytes: int
    pixels: int
    seconds: float


def application(engines: Mapping[str, Engine], gate: Gate, limits: Limits) -> FastAPI:
    """The application that serves these engines by name; with one alone, also at /segment."""
    app = FastAPI(title="segc", version=__version__, description=_DESCRIPTION)
    metrics = Metrics(gate)
    options: dict[str, Any] = {"responses": _STATUSES, "openapi_extra": {"requestBody": _BODY}}

    async def segment(name: str, request: Request, format: Kind = "mask") -> Response:
        """Segment the image in the body. format: `mask` and `overlay` are PNG, `rle` is COCO's code in JSON."""
        start = time.monotonic()
        engine = engines.get(name)
        if engine is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, f"there is no model {name!r}; GET /models lists them")
        response = await _answered(engine, request, format, gate, limits)
        metrics.requests.labels(name, response.status_code).inc()
        metrics.bytes.labels(name).inc(len(response.body))
        metrics.seconds.labels(name).observe(time.monotonic() - start)
        return response

    app.post("/models/{name}/segment", **options)(segment)
    if len(engines) == 1:
        only = next(iter(engines))

        async def segment_only(request: Request, format: Kind = "mask") -> Response:
            """The same for the only model."""
            return await segment(only, request, format)

        app.post("/segment", **options)(segment_only)

    @app.get("/models")
    async def models() -> dict[str, Any]:
        """The models, their classes and colours."""
        return {name: _described(engine) for name, engine in engines.items()}

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        """Whether a request would be taken now."""
        free = gate.inside < gate.at_once + gate.queue
        return JSONResponse({"status": "ready" if free else "busy"}, 200 if free else HTTPStatus.SERVICE_UNAVAILABLE)

    @app.get("/metrics")
    async def shown() -> Response:
        """Counts and times for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return app


async def _answered(engine: Engine, request: Request, kind: Kind, gate: Gate, limits: Limits) -> Response:
    """The answer to one request; errors too are answers."""
    try:
        async with gate.admitted():
            content = await _body(request, limits)
            made: Answer = await gate.run(partial(answer, engine, content, kind, limits.pixels))
            return Response(made.content, media_type=made.media_type)
    except BusyError:
        return _error(HTTPStatus.TOO_MANY_REQUESTS, "too many requests are waiting", _LATER)
    except LateError:
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, f"the request waited for {limits.seconds:g} s", _LATER)
    except MemoryError:
        return _error(HTTPStatus.SERVICE_UNAVAILABLE, "memory ran out", _LATER)
    except HTTPException as error:
        return _error(HTTPStatus(error.status_code), str(error.detail))
    except SegcError as error:
        return _of_segc(error)


async def _body(request: Request, limits: Limits) -> bytes:
    """The body, read no further than the limit. Raises HTTPException."""
    too_large = HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {limits.bytes} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.bytes:
        raise too_large
    content = bytearray()
    try:
        with anyio.fail_after(limits.seconds):
            async for part in request.stream():
                content += part
                if len(content) > limits.bytes:
                    raise too_large
    except TimeoutError:
        message = f"the body took more than {limits.seconds:g} s"
        raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, message) from None
    return bytes(content)


def _of_segc(error: SegcError) -> JSONResponse:
    """What clients may know of an error: of their own request all, of the server its code."""
    if error.code == Code.IMAGE_TOO_LARGE:
        status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    elif error.code == Code.IMAGE_UNREADABLE:
        status = HTTPStatus.BAD_REQUEST
    elif isinstance(error, ShapeError | UsageError):
        status = HTTPStatus.UNPROCESSABLE_ENTITY
    else:
        return JSONResponse({"error": "the model failed", "code": str(error.code)}, HTTPStatus.INTERNAL_SERVER_ERROR)
    shown = error.to_json()
    return JSONResponse({name: shown[name] for name in ("error", "code", "because", "so")}, status)


def _error(status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers=dict(headers or {}))


def _described(engine: Engine) -> dict[str, Any]:
    made = engine.manifest
    classes = [
        {"id": number, "name": name, "colour": list(colour)}
        for number, (name, colour) in enumerate(zip(made.classes, made.palette, strict=False))
    ]
    return {"source": made.source.name, "target": made.target.name, "precision": made.precision, "classes": classes}
