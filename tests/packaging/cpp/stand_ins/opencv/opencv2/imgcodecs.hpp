// See core.hpp.
#pragma once
#include <opencv2/core.hpp>

namespace cv {
enum ImreadModes { IMREAD_GRAYSCALE = 0, IMREAD_COLOR = 1, IMREAD_IGNORE_ORIENTATION = 128 };
inline Mat imdecode(const std::vector<uint8_t>& content, int flags) {
    Mat made;
    if (content.size() < 6 || std::memcmp(content.data(), "colour", 6) != 0) return made;
    made.rows = 5;
    made.cols = 7;
    made.channels_ = flags & IMREAD_COLOR ? 3 : 1;
    made.data_.assign(static_cast<size_t>(5 * 7 * made.channels_), 0);
    for (size_t i = 0; i < made.data_.size(); i += static_cast<size_t>(made.channels_)) made.data_[i] = 200;  // blue
    return made;
}
}  // namespace cv
