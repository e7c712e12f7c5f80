// The parts of segc.hpp as a library of C functions, which tests compare with Python's.
#include "segc.hpp"

static std::string failure;

// Runs a part; -1 and a message where it throws.
template <typename Part>
static int guarded(Part part) {
    try {
        part();
        return 0;
    } catch (const segc::Error& error) {
        failure = error.what();
        return static_cast<int>(error.kind);
    }
}

extern "C" {

const char* probe_failure() { return failure.c_str(); }

// The mask of logits (C, h, w) at H x W. via: null, or the intermediate height and width, and what they are cropped to.
// threshold: below 0 for none. plain: every class interpolated. out: uint8, uint16 above 256 classes.
int probe_mask(const float* logits, const int* shape, const int* size, int align, const int* via, double threshold,
               int threads, int plain, void* out) {
    return guarded([&] {
        segc::detail::Planes planes = segc::detail::make_planes(shape[0], shape[1], shape[2]);
        planes.data.assign(logits, logits + planes.data.size());
        segc::detail::PlaneRows rows(planes);
        segc::detail::Via middle{{0, 0}, {0, 0}};
        if (via != nullptr) middle = {{via[0], via[1]}, {via[2], via[3]}};
        const segc::detail::MaskJob job{size[0],        size[1],   align != 0, via ? &middle : nullptr,
                                        threshold >= 0, threshold, threads};
        if (plain) {
            std::vector<uint8_t> mask(static_cast<size_t>(size[0]) * static_cast<size_t>(size[1]));
            segc::detail::plain_mask(&rows, job, &mask);
            std::memcpy(out, mask.data(), mask.size());
            return;
        }
        const segc::Mask mask = segc::detail::decide(&rows, job);
        std::memcpy(out, mask.is_wide() ? static_cast<const void*>(mask.wide.data()) : mask.narrow.data(),
                    mask.is_wide() ? 2 * mask.wide.size() : mask.narrow.size());
    });
}

// The network's input of an image of 8 bits. made: its channels, height, width, and the rows and columns that are kept.
// out: room for `most` numbers.
int probe_preprocess(const char* manifest, const uint8_t* image, const int* shape, int* made, float* out, int most) {
    return guarded([&] {
        segc::Image given{shape[0], shape[1], shape[2], {}};
        given.data = std::vector<uint8_t>(image, image + given.count());
        const segc::Prepared found = segc::preprocess(given, segc::parse_manifest(manifest));
        const int numbers[5] = {found.x.channels, found.x.height, found.x.width, found.height, found.width};
        std::copy_n(numbers, 5, made);
        if (static_cast<int>(found.x.data.size()) > most) throw segc::Error(segc::Kind::usage, "no room");
        std::copy(found.x.data.begin(), found.x.data.end(), out);
    });
}

// The pixels of the file `content`. made: height, width, channels. out: room for `most` bytes.
int probe_decode(const char* manifest, const uint8_t* content, int bytes, int* made, uint8_t* out, int most) {
    return guarded([&] {
        const segc::Image found = segc::decode_image({content, content + bytes}, segc::parse_manifest(manifest));
        const int numbers[3] = {found.height, found.width, found.channels};
        std::copy_n(numbers, 3, made);
        if (static_cast<int>(found.count()) > most) throw segc::Error(segc::Kind::usage, "no room");
        std::copy(found.bytes().begin(), found.bytes().end(), out);
    });
}

}  // extern "C"
