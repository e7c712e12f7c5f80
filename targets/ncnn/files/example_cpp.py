"""A C++ program that runs the bundle without segc: example/main.cpp and its CMakeLists.txt, from the manifest.

It needs only ncnn: it reads images as binary PPM and writes masks as PGM files of class numbers. For an image of the
engine's size it computes what `segc run` computes; other sizes are resized by ncnn, which rounds differently from
OpenCV.
"""

from __future__ import annotations

from pathlib import Path
from string import Template

from segc.bundle.manifest import Manifest
from segc.targets.ncnn.runtime import BIN, PARAM, flags_of

FOLDER = "example"

CMAKE = """\
cmake_minimum_required(VERSION 3.12)
project(segment CXX)
set(CMAKE_CXX_STANDARD 11)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
find_package(ncnn REQUIRED)
add_executable(segment main.cpp)
target_link_libraries(segment ncnn)
"""

MAIN = Template("""\
// Runs '$name' with ncnn on one image and writes the class of each pixel.
//
//     cmake -S example -B build -Dncnn_DIR=NCNN/lib/cmake/ncnn && cmake --build build
//     build/segment BUNDLE image.ppm mask.pgm [threads]
//
// image.ppm: binary PPM (P6), 8 bits a channel. mask.pgm: binary PGM (P5) of class numbers, $bytes byte(s) a pixel.
// $size_note
// Made by segc from the bundle's segc.json.
#include <net.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

static const int kHeight = $height;  // 0: any
static const int kWidth = $width;
static const int kDivisor = $divisor;  // sides of the input are multiples of this
static const int kChannels = $channels;
static const float kMean[3] = {$mean};
static const float kStd[3] = {$std};
static const bool kRgb = $rgb;
static const float kPad = ${pad}f;
static const float kThreshold = ${threshold}f;  // of a head with one channel

struct Image {
    int width, height;
    std::vector<unsigned char> rgb;
};

static bool read_ppm(const char* path, Image& image) {
    FILE* file = std::fopen(path, "rb");
    if (!file) return false;
    int most = 0;
    bool good = std::fscanf(file, "P6 %d %d %d", &image.width, &image.height, &most) == 3 && most == 255;
    good = good && std::fgetc(file) != EOF && image.width > 0 && image.height > 0;
    if (good) {
        image.rgb.resize((size_t)image.width * image.height * 3);
        good = std::fread(image.rgb.data(), 1, image.rgb.size(), file) == image.rgb.size();
    }
    std::fclose(file);
    return good;
}

static bool write_pgm(const char* path, const std::vector<int>& mask, int width, int height) {
    FILE* file = std::fopen(path, "wb");
    if (!file) return false;
    const bool wide = kChannels > 256;
    std::fprintf(file, "P5\\n%d %d\\n%d\\n", width, height, wide ? 65535 : 255);
    for (size_t i = 0; i < mask.size(); i++) {
        if (wide) std::fputc(mask[i] >> 8, file);
        std::fputc(mask[i] & 255, file);
    }
    return std::fclose(file) == 0;
}

// (channel - mean) / std, channels in the model's order, padded to the right and bottom.
static ncnn::Mat normalized(const Image& image) {
    const int width = (image.width + kDivisor - 1) / kDivisor * kDivisor;
    const int height = (image.height + kDivisor - 1) / kDivisor * kDivisor;
    ncnn::Mat input(width, height, 3);
    for (int c = 0; c < 3; c++) {
        const int source = kRgb ? c : 2 - c;
        for (int y = 0; y < height; y++) {
            float* row = input.channel(c).row(y);
            for (int x = 0; x < width; x++) {
                const bool inside = y < image.height && x < image.width;
                row[x] = inside ? (image.rgb[((size_t)y * image.width + x) * 3 + source] - kMean[c]) / kStd[c] : kPad;
            }
        }
    }
    return input;
}

// The class of the pixel: what the engine says, or the lowest class of the largest logit.
static int class_of(const ncnn::Mat& output, int y, int x) {
$decide
}

int main(int argc, char** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: %s BUNDLE image.ppm mask.pgm [threads]\\n", argv[0]);
        return 2;
    }
    Image image;
    if (!read_ppm(argv[2], image)) {
        std::fprintf(stderr, "%s is no binary PPM of 8 bits\\n", argv[2]);
        return 3;
    }
    if (kHeight && (image.height != kHeight || image.width != kWidth)) {
        Image resized = {kWidth, kHeight, std::vector<unsigned char>((size_t)kWidth * kHeight * 3)};
        ncnn::resize_bilinear_c3(image.rgb.data(), image.width, image.height, resized.rgb.data(), kWidth, kHeight);
        image = resized;
    }
    ncnn::Net net;
$flags
    if (argc > 4) net.opt.num_threads = std::atoi(argv[4]);
    const std::string folder = std::string(argv[1]) + "/";
    if (net.load_param((folder + "$param").c_str()) || net.load_model((folder + "$bin").c_str())) {
        std::fprintf(stderr, "the engine in %s cannot be loaded\\n", argv[1]);
        return 6;
    }
    ncnn::Extractor extractor = net.create_extractor();
    ncnn::Mat output;
    if (extractor.input("$input", normalized(image)) || extractor.extract("$output", output)) {
        std::fprintf(stderr, "the engine fails\\n");
        return 9;
    }
    std::vector<int> mask((size_t)image.width * image.height);
    for (int y = 0; y < image.height; y++)
        for (int x = 0; x < image.width; x++) mask[(size_t)y * image.width + x] = class_of(output, y, x);
    if (!write_pgm(argv[3], mask, image.width, image.height)) {
        std::fprintf(stderr, "%s cannot be written\\n", argv[3]);
        return 8;
    }
    return 0;
}
""")

DECIDE = {
    "mask": "    return (int)output.row(y)[x];",
    "one channel": "    return 1.f / (1.f + std::exp(-output.channel(0).row(y)[x])) > kThreshold ? 1 : 0;",
    "logits": """\
    int best = 0;
    for (int c = 1; c < kChannels; c++)
        if (output.channel(c).row(y)[x] > output.channel(best).row(y)[x]) best = c;
    return best;""",
}


def write_example(directory: Path, manifest: Manifest) -> None:
    """Write example/main.cpp and example/CMakeLists.txt into the bundle.

    Nothing is written for models whose input does not have three channels or whose preprocessing does more than resize
    and normalize, and for hybrid bundles.
    """
    if manifest.input.shape[1] != 3 or manifest.segments or not manifest.preprocessing.is_plain:
        return
    folder = directory / FOLDER
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(CMAKE, encoding="utf-8", newline="\n")
    (folder / "main.cpp").write_text(main_cpp(manifest), encoding="utf-8", newline="\n")


def main_cpp(manifest: Manifest) -> str:
    """The text of main.cpp for this bundle."""
    _, _, height, width = manifest.input.shape
    fixed = height is not None and width is not None
    options, pre, out = manifest.target.options, manifest.preprocessing, manifest.output
    kind = "mask" if out.kind == "mask" else "logits" if out.channels > 1 else "one channel"
    sliding = manifest.inference.mode == "slide"
    note = (
        f"Images of another size than {width} x {height} are resized to it." if fixed else "Images are run as they are."
    )
    return MAIN.substitute(
        name=_comment(manifest.source.name),
        bytes=2 if out.channels > 256 else 1,
        size_note=note + (" segc slides this engine over larger images; this program does not." if sliding else ""),
        height=height if fixed else 0,
        width=width if fixed else 0,
        divisor=1 if fixed or manifest.input.dynamic is None else manifest.input.dynamic.divisor,
        channels=out.channels,
        mean=_floats(pre.mean),
        std=_floats(pre.std),
        rgb="true" if pre.channel_order == "RGB" else "false",
        pad=_float(pre.pad.value),
        threshold=_float(out.threshold or 0.0),
        decide=DECIDE[kind],
        flags="\n".join(f"    net.opt.{flag} = {str(value).lower()};" for flag, value in flags_of(options).items()),
        param=PARAM,
        bin=BIN,
        input=options["input"],
        output=options["output"],
    )


def _float(value: float) -> str:
    """A C++ float literal without its suffix, with enough digits to give the same float32."""
    return f"{value:.9g}" if "." in f"{value:.9g}" or "e" in f"{value:.9g}" else f"{value:.1f}"


def _floats(values: tuple[float, ...]) -> str:
    return ", ".join(f"{_float(value)}f" for value in values)


def _comment(name: str) -> str:
    """A name as it can stand in a comment line: without line breaks and backslashes."""
    return " ".join(name.replace("\\", "/").split())
