"""`segc.run` on videos: masks equal those of `segment` of the decoded frames, times and turns are the video's."""

from __future__ import annotations

import io
import json
import sys
import threading
import weakref
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import segc
from segc.errors import Code, FileError, SegcError, UsageError
from segc.streams import segment
from segc.streams.reading import Frame
from tests.helpers.calls import segc as command
from tests.helpers.tiny_bundles import bundle, photograph
from tests.helpers.videos import decoded, masks, pictures, sound, video

av = pytest.importorskip("av")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return bundle(tmp_path / "tiny")


def test_masks_and_overlays_of_a_video(tiny: Path, tmp_path: Path) -> None:
    """Of a variable frame rate."""
    times = [0, 40, 130, 150, 400, 401, 1000]
    path = video(tmp_path / "a.mp4", pictures(7, 48, 64), times=times)
    (done,) = segc.run(tiny, path, out=tmp_path / "out").videos
    assert [file.name for file in done.files] == ["a_mask.mkv", "a_overlay.mp4"] and done.dropped == 0
    assert (done.frames, done.size) == (7, (48, 64)) and sum(done.shares.values()) == pytest.approx(1, abs=1e-5)
    images, seconds, _ = decoded(path)
    found, shown_at = masks(done.files[0])
    engine = segc.load(tiny)
    for image, mask in zip(images, found, strict=True):
        np.testing.assert_array_equal(mask, engine.segment(image).mask)
    assert seconds == shown_at == [time / 1000 for time in times]
    overlays, overlay_seconds, _ = decoded(done.files[1])
    assert overlay_seconds == pytest.approx(seconds, abs=1e-6)
    for image, overlay in zip(images, overlays, strict=True):  # H.264 loses some
        assert np.abs(engine.segment(image).overlay(image).astype(int) - overlay).mean() < 12
    with av.open(str(done.files[1])) as container:
        assert container.streams.video[0].codec_context.name == "h264"


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_a_video_is_segmented_as_players_turn_it(tiny: Path, tmp_path: Path, rotation: int) -> None:
    path = video(tmp_path / "a.mp4", pictures(2, 48, 64), rotation=rotation)
    player = cv2.VideoCapture(str(path))
    good, turned = player.read()
    images, _, rotations = decoded(path)
    (done,) = segc.run(tiny, path, out=tmp_path / "out").videos
    found, _ = masks(done.files[0])
    assert good and turned.shape[:2] == found[0].shape == done.size and abs(rotations[0]) == abs(rotation)
    candidates = [k for k in range(4) if np.rot90(images[0], k).shape == turned.shape]
    turns = min(candidates, key=lambda k: np.abs(np.rot90(images[0], k).astype(int) - turned).mean())
    upright = np.ascontiguousarray(np.rot90(images[0], turns))
    np.testing.assert_array_equal(found[0], segc.load(tiny).segment(upright).mask)
    assert decoded(done.files[1])[2] == [0, 0]


def test_odd_sizes(tiny: Path, tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", pictures(3, 33, 41), codec="ffv1", kind="bgr0")
    (done,) = segc.run(tiny, path, out=tmp_path / "out").videos
    engine, images = segc.load(tiny), decoded(path)[0]
    for image, mask, shown in zip(images, masks(done.files[0])[0], decoded(done.files[1])[0], strict=True):
        np.testing.assert_array_equal(mask, engine.segment(image).mask)
        assert shown.shape == image.shape == (33, 41, 3)


def test_every_nth_frame_and_what_is_saved(tiny: Path, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    pytest.importorskip("rasterio")
    path = video(tmp_path / "a.mp4", pictures(7, 48, 64))
    images, seconds, _ = decoded(path)
    engine = segc.load(tiny)
    want = {number: engine.segment(images[number]).mask for number in (0, 3, 6)}
    files = {
        save: segc.run(tiny, path, out=tmp_path / save, save=save, every=3).videos[0].files[0]
        for save in ("mask", "npz", "rle", "polygons", "overlay")
    }
    found, times = masks(files["mask"])
    assert [list(times), len(found)] == [[seconds[number] for number in want], 3]
    with np.load(files["npz"]) as arrays:
        assert sorted(arrays) == ["frame_000000", "frame_000003", "frame_000006", "seconds"]
        for number, mask in want.items():
            np.testing.assert_array_equal(arrays[f"frame_{number:06}"], mask)
        assert arrays["seconds"].tolist() == [seconds[number] for number in want]
    rows = [json.loads(line) for line in files["rle"].read_text().splitlines()]
    assert [row["frame"] for row in rows] == [0, 3, 6] and [row["seconds"] for row in rows] == [0, 0.12, 0.24]
    for row in rows:
        for one in row["classes"]:
            np.testing.assert_array_equal(coco.decode(one["rle"]) == 1, want[row["frame"]] == one["id"])
    shapes = [json.loads(line) for line in files["polygons"].read_text().splitlines()]
    assert [row["type"] for row in shapes] == ["FeatureCollection"] * 3
    assert files["overlay"].suffix == ".mp4" and len(decoded(files["overlay"])[0]) == 3


def test_a_pattern_a_folder_and_videos_of_one_name(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        video(folder / name / "x.mp4", pictures(2, 16, 16))
    cv2.imwrite(str(folder / "c.png"), photograph(20, 30))
    result = segc.run(tiny, [str(folder / "*" / "*.mp4"), folder], out=tmp_path / "out", save="mask")
    assert [done.files[0].name for done in result.videos] == ["x_mask.mkv", "x-2_mask.mkv"]
    assert [image.mask.name for image in result.images] == ["c_mask.png"]
    with pytest.raises(FileError, match="no file matches") as raised:
        segc.run(tiny, str(folder / "*.avi"), out=tmp_path / "out")
    assert raised.value.code == Code.NOT_FOUND


def test_a_finished_video_is_not_done_again(tiny: Path, tmp_path: Path) -> None:
    path, state = video(tmp_path / "a.mp4", pictures(3, 16, 16)), tmp_path / "state"
    first = segc.run(tiny, path, out=tmp_path / "out", save="mask", state=state)
    stamp = first.videos[0].files[0].stat().st_mtime_ns
    again = segc.run(tiny, path, out=tmp_path / "out", save="mask", state=state)
    assert again.videos == first.videos and first.videos[0].files[0].stat().st_mtime_ns == stamp
    other = segc.run(tiny, path, out=tmp_path / "out", save="mask", state=state, every=2)
    assert other.videos[0].frames == 2


@pytest.mark.parametrize("kind", ["text", "empty", "sound", "missing", "folder", "playlist", "no index"])
def test_what_is_no_video_is_refused(tiny: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    if kind in ("text", "empty"):
        path.write_text("no video" if kind == "text" else "")
    elif kind == "sound":
        sound(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "playlist":
        video(tmp_path / "b.ts", pictures(2, 16, 16), format="mpegts")
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{tmp_path / 'b.ts'}\n#EXT-X-ENDLIST\n")
    elif kind == "no index":
        whole = video(path, pictures(9, 48, 64)).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    if kind == "folder":
        with pytest.raises(FileError, match="no image lies in"):
            segc.run(tiny, path, out=tmp_path / "out")
        return
    ((name, error),) = segc.run(tiny, path, out=tmp_path / "out").errors
    assert name == path and error.code == Code.VIDEO_UNREADABLE
    assert list((tmp_path / "out").iterdir()) == []
    if kind == "sound":
        assert "audio" in str(error)


@pytest.mark.parametrize("kind", ["cut off", "damaged"])
def test_of_a_damaged_video_the_frames_before_are_written(tiny: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    noise = [np.random.default_rng(i).integers(0, 256, (48, 64, 3), np.uint8) for i in range(12)]
    video(path, noise, options={"movflags": "faststart"})
    content = bytearray(path.read_bytes())
    if kind == "cut off":
        content = content[: len(content) * 2 // 3]
    else:
        content[len(content) * 3 // 4 : len(content) * 3 // 4 + 900] = bytes(900)
    path.write_bytes(content)
    result = segc.run(tiny, path, out=tmp_path / "out", save="mask")
    ((_, error),) = result.errors
    assert error.code == Code.VIDEO_CUT_OFF
    (done,) = result.videos
    assert 0 < done.frames <= 12 and len(masks(done.files[0])[0]) == done.frames
    shown = command("run", tiny, path, "-o", tmp_path / "out", "--save", "mask")
    assert shown.code == FileError.exit_code and Code.VIDEO_CUT_OFF in shown.err and "a second" in shown.out


def test_an_image_or_a_video_on_standard_input(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photograph(20, 30)
    png = cv2.imencode(".png", image)[1].tobytes()
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()

    def given(content: bytes) -> Any:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return segc.run(tiny, "-", out=tmp_path / "out", save="mask")

    result = given(png + jpeg + png[:-5])
    engine = segc.load(tiny)
    for one, pixels, name in zip(
        result.images, (image, engine.decode(jpeg)), ("stdin_mask.png", "stdin-2_mask.png"), strict=True
    ):
        assert one.mask.name == name
        np.testing.assert_array_equal(np.asarray(Image.open(one.mask)), engine.segment(pixels).mask)
    assert [error.code for _, error in result.errors] == [Code.IMAGE_UNREADABLE]
    path = video(tmp_path / "a.mkv", pictures(3, 16, 16))
    (done,) = given(path.read_bytes()).videos
    assert [done.files[0].name, done.frames] == ["stdin_mask.mkv", 3]
    for content in (b"", b"nothing"):
        assert given(content).errors[0][1].code == Code.VIDEO_UNREADABLE


def test_an_address_is_read_until_it_ends(tiny: Path, tmp_path: Path) -> None:
    """MPEG-TS over TCP. The one that sends listens, as a camera does."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    content = video(tmp_path / "a.ts", pictures(9, 32, 48), format="mpegts").read_bytes()
    listening = threading.Event()

    def send() -> None:
        with socket.create_server(("127.0.0.1", port)) as server:
            listening.set()
            connection, _ = server.accept()
            with connection:
                connection.sendall(content)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    listening.wait()
    result = segc.run(tiny, f"tcp://127.0.0.1:{port}", out=tmp_path / "out", save="mask", late="wait")
    thread.join()
    (done,) = result.videos
    assert (done.frames, done.dropped) == (9, 0) and done.files[0].name == f"127-0-0-1-{port}_mask.mkv"
    with pytest.raises(UsageError, match="no address"):
        segc.run(tiny, "gopher://a", out=tmp_path / "out")
    ((_, error),) = segc.run(tiny, f"tcp://127.0.0.1:{port}", out=tmp_path / "out").errors
    assert error.code == Code.VIDEO_UNREADABLE


def test_a_live_stream_ends_with_an_interrupt_and_is_whole(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera without end: Ctrl-C after a few frames."""

    class Camera:
        total, rate = None, None

        def frames(self, every: int) -> Any:
            number = 0
            while True:
                yield Frame(number, photograph(16, 16, number % 3), number * 40, Fraction(1, 1000))
                number += 1

    @contextmanager
    def opened(*_: object) -> Any:
        yield Camera()

    monkeypatch.setattr(segment, "opened", opened)

    def stop(_: Path, frames: int, total: int | None) -> None:
        assert total is None
        if frames == 5:
            raise KeyboardInterrupt

    (done,) = segc.run(tiny, "0", out=tmp_path / "out", save="mask", within=stop).videos
    assert done.frames == 5 and len(masks(done.files[0])[0]) == 5 and done.files[0].name == "camera0_mask.mkv"


def test_a_camera_that_is_not_there_is_named(tiny: Path, tmp_path: Path) -> None:
    ((_, error),) = segc.run(tiny, "97", out=tmp_path / "out").errors
    assert error.code == Code.VIDEO_UNREADABLE and "97" in str(error)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tile": (8, 8)}, "--tile does not go with"), ({"scheduler": "tcp://a:1"}, "--scheduler does not go with"),
        ({"late": "soon"}, "--late 'soon'"), ({"save": "gif"}, "--save 'gif'"), ({"every": 0}, "--every 0"),
        ({"save": "mask", "overlay": False}, "exclude each other"), ({"max_pixels": 100}, "too large"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(tiny: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    path = video(tmp_path / "a.mp4", pictures(2, 16, 16))
    try:
        result = segc.run(tiny, path, out=tmp_path / "out", **options)
    except UsageError as error:
        assert words in str(error)
    else:
        assert words in str(result.errors[0][1]) and result.errors[0][1].code == Code.IMAGE_TOO_LARGE


def test_an_output_never_replaces_a_video(tiny: Path, tmp_path: Path) -> None:
    path = video(tmp_path / "a.mkv", pictures(2, 16, 16))
    other = path.rename(tmp_path / "a_mask.mkv")
    video(path, pictures(2, 16, 16))
    with pytest.raises(UsageError) as raised:
        segc.run(tiny, [path, other], out=tmp_path)
    assert raised.value.code == Code.OUTPUT_REPLACES_INPUT


def test_few_frames_are_held(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, most = video(tmp_path / "a.mp4", pictures(60, 16, 16)), list[int]()
    plain, alive = segment._segmented, weakref.WeakSet[Frame]()

    def counted(*given: Any) -> Any:
        alive.add(given[2])
        most.append(len(alive))
        return plain(*given)

    monkeypatch.setattr(segment, "_segmented", counted)
    segc.run(tiny, path, out=tmp_path / "out", save="rle")
    assert len(most) == 60 and max(most) <= 8


def test_without_pyav_it_says_what_to_install(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "a.mp4", pictures(2, 16, 16))
    monkeypatch.setitem(sys.modules, "av", None)
    error: SegcError = segc.run(tiny, path, out=tmp_path / "out").errors[0][1]
    assert error.code == Code.OPTIONAL_PACKAGE and "segc[video]" in str(error)
