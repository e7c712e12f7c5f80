// A stand-in for the part of OpenCV that segc.hpp calls: an image of one colour for any file that begins with "colour".
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace cv {
class Mat {
public:
    bool empty() const { return data_.empty(); }
    int channels() const { return channels_; }
    const uint8_t* ptr(int y) const { return data_.data() + static_cast<size_t>(y * cols * channels_); }
    int rows = 0, cols = 0;
    int channels_ = 0;
    std::vector<uint8_t> data_;
};
}  // namespace cv
