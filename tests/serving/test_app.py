"""The server's answers: masks of `segment`, and a status for everything that can be wrong."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import cv2
import numpy as np
import pytest

import segc
from tests.helpers.tiny_bundles import Recorder, bundle, manifest, photograph

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
coco = pytest.importorskip("pycocotools.mask")

from segc.runtime.engine import Engine  # noqa: E402 - after the packages are known to be there
from segc.serving.app import Limits, application  # noqa: E402
from segc.serving.gate import Gate  # noqa: E402

LIMITS = Limits(bytes=1 << 20, pixels=10_000, seconds=20)


def png(height: int = 31, width: int = 47) -> bytes:
    return cv2.imencode(".png", photograph(height, width))[1].tobytes()


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))


class Asked:
    """Requests to an application, one after the other or together."""

    def __init__(self, engines: dict[str, Engine], gate: Gate | None = None, limits: Limits = LIMITS) -> None:
        self.app = application(engines, gate or Gate(2, 8, limits.seconds), limits)

    def together(self, *requests: tuple[str, str, dict[str, Any]]) -> list[Any]:
        """The answers in the order of the requests: method, path, further settings."""
        answers: list[Any] = [None] * len(requests)

        async def ask() -> None:
            transport = httpx.ASGITransport(self.app)
            async with (
                httpx.AsyncClient(transport=transport, base_url="http://x") as client,
                anyio.create_task_group() as group,
            ):

                async def one(at: int, method: str, path: str, settings: dict[str, Any]) -> None:
                    answers[at] = await client.request(method, path, **settings)

                for at, request in enumerate(requests):
                    group.start_soon(one, at, *request)

        anyio.run(ask)
        return answers

    def post(self, path: str, content: bytes, **settings: Any) -> Any:
        return self.together(("POST", path, {"content": content, **settings}))[0]

    def get(self, path: str) -> Any:
        return self.together(("GET", path, {}))[0]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return segc.load(bundle(tmp_path / "b"))


def test_a_mask_is_that_of_segment_with_the_palette(engine: Engine) -> None:
    answer = Asked({"b": engine}).post("/segment", png())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    want = engine.segment(photograph(31, 47))
    assert answer.content == want.png()


def test_an_overlay_is_that_of_segment(engine: Engine) -> None:
    answer = Asked({"b": engine}).post("/models/b/segment?format=overlay", png())
    image = photograph(31, 47)
    np.testing.assert_array_equal(decoded(answer.content), engine.segment(image).overlay(image))


def test_run_lengths_are_those_of_the_mask(engine: Engine) -> None:
    found = Asked({"b": engine}).post("/segment?format=rle", png()).json()
    mask = np.zeros((found["height"], found["width"]), np.uint8)
    for each in found["classes"]:
        of_class = coco.decode(each["rle"]).astype(bool)
        assert each["pixels"] == of_class.sum() and each["name"] == engine.manifest.classes[each["id"]]
        mask[of_class] = each["id"]
    np.testing.assert_array_equal(mask, engine.segment(photograph(31, 47)).mask)


def test_two_models_are_called_by_name(engine: Engine) -> None:
    asked = Asked({"a": engine, "b": engine})
    assert asked.post("/models/a/segment", png()).content == asked.post("/models/b/segment", png()).content
    assert asked.post("/segment", png()).status_code == 404
    missing = asked.post("/models/c/segment", png())
    assert missing.status_code == 404 and "GET /models" in missing.text
    listed = asked.get("/models").json()
    assert [*listed] == ["a", "b"] and listed["a"]["classes"][1] == {"id": 1, "name": "green", "colour": [0, 255, 0]}


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"no image", 400, "cannot read the image of the request"),
        (b"", 400, "the file is empty"),
        (png()[:200], 400, "cut off"),
        (png(101, 100), 413, "100x101 pixels"),
        (bytes((1 << 20) + 1), 413, "at most 1048576 bytes"),
    ],
)
def test_images_that_cannot_be_used(engine: Engine, content: bytes, status: int, says: str) -> None:
    answer = Asked({"b": engine}).post("/segment", content)
    assert answer.status_code == status and says in answer.text and "Traceback" not in answer.text


def test_a_body_without_a_length_is_read_no_further_than_the_limit(engine: Engine) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield bytes(1 << 16)

    (answer,) = Asked({"b": engine}).together(("POST", "/segment", {"content": endless()}))
    assert answer.status_code == 413 and sent <= (1 << 20) + (1 << 17)


def test_a_body_that_comes_too_slowly(engine: Engine) -> None:
    async def slow() -> Any:
        yield b"x"
        await anyio.sleep(60)

    limits = Limits(1 << 20, 10_000, seconds=0.05)
    (answer,) = Asked({"b": engine}, limits=limits).together(("POST", "/segment", {"content": slow()}))
    assert answer.status_code == 408


def test_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    dynamic = {"batch": [1, None], "height": [1, 20], "width": [1, None], "divisor": 1}
    engine = segc.load(bundle(tmp_path / "b", input__dynamic=dynamic))
    answer = Asked({"b": engine}).post("/segment", png())
    assert answer.status_code == 422 and "1 to 20 pixels" in answer.json()["because"][0]


def test_an_unknown_format_is_refused(engine: Engine) -> None:
    assert Asked({"b": engine}).post("/segment?format=gif", png()).status_code == 422


def test_an_engine_that_fails_tells_strangers_its_code_alone() -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("secret")

    answer = Asked({"b": Engine(manifest(), Recorder(fail))}).post("/segment", png())
    assert answer.status_code == 500
    assert answer.json() == {"error": "the model failed", "code": "SEGC-C302"}


@contextmanager
def held() -> Iterator[tuple[Engine, threading.Event, threading.Event]]:
    """An engine that waits, an event that says that it does, and one that lets it go on."""
    working, go = threading.Event(), threading.Event()

    def wait(x: np.ndarray) -> np.ndarray:
        working.set()
        assert go.wait(30)
        return x

    try:
        yield Engine(manifest(), Recorder(wait)), working, go
    finally:
        go.set()


async def while_working(asked: Asked, working: threading.Event, then: Callable[[Any], Awaitable[None]]) -> list[int]:
    """The statuses of a request that is worked on and of those that `then` sends meanwhile, by a client."""
    codes: list[int] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(asked.app), base_url="http://x") as client:

        async def one() -> None:
            codes.append((await client.post("/segment", content=png())).status_code)

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await anyio.to_thread.run_sync(working.wait)
            client.one, client.group = one, group
            await then(client)
    return codes


def test_requests_beyond_the_queue_are_told_to_come_later() -> None:
    with held() as (engine, working, go):
        answers: dict[str, Any] = {}

        async def then(client: Any) -> None:
            client.group.start_soon(client.one)
            await anyio.sleep(0)
            while (ready := await client.get("/health/ready")).status_code == 200:
                await anyio.sleep(0)
            answers.update(ready=ready, refused=await client.post("/segment", content=png()))
            go.set()

        codes = anyio.run(while_working, Asked({"b": engine}, Gate(1, 1, 20)), working, then)
    assert codes == [200, 200]
    assert answers["ready"].status_code == 503 and answers["ready"].json() == {"status": "busy"}
    assert answers["refused"].status_code == 429 and answers["refused"].headers["retry-after"] == "1"


def test_a_request_that_waits_too_long_is_given_up() -> None:
    with held() as (engine, working, go):

        async def then(client: Any) -> None:
            await client.one()
            go.set()

        assert anyio.run(while_working, Asked({"b": engine}, Gate(1, 1, 0.2)), working, then) == [503, 200]


def test_many_requests_at_once_get_their_own_masks(engine: Engine) -> None:
    sizes = [(20 + at % 7, 30 + at % 5) for at in range(60)]
    asked = Asked({"b": engine}, Gate(2, 60, 30))
    answers = asked.together(*(("POST", "/segment", {"content": png(*size)}) for size in sizes))
    for size, answer in zip(sizes, answers, strict=True):
        assert answer.status_code == 200 and answer.content == engine.segment(photograph(*size)).png()


def test_metrics_count_requests_and_bytes(engine: Engine) -> None:
    asked = Asked({"b": engine})
    length = len(asked.post("/segment", png()).content)
    asked.post("/segment", b"no image")
    lines = asked.get("/metrics").text.splitlines()
    assert 'segc_requests_total{model="b",status="200"} 1.0' in lines
    assert 'segc_requests_total{model="b",status="400"} 1.0' in lines
    (total,) = (float(line.split()[-1]) for line in lines if line.startswith("segc_answer_bytes_total"))
    assert total > length and "segc_requests_inside 0.0" in lines


def test_the_page_of_the_interface_names_statuses_and_bodies(engine: Engine) -> None:
    described = Asked({"b": engine}).get("/openapi.json").json()
    post = described["paths"]["/segment"]["post"]
    assert {"200", "400", "408", "413", "422", "429", "503"} <= {*post["responses"]}
    assert "image/*" in post["requestBody"]["content"]
    assert Asked({"b": engine}).get("/health/live").json() == {"status": "live"}
