// A stand-in for the part of ncnn that runner.hpp calls. Its net gives its input out, with channels that are padded as
// ncnn pads them; a .param file that does not begin with ncnn's number is refused.
#pragma once
#include <cstddef>
#include <fstream>
#include <string>
#include <vector>

namespace ncnn {

class Mat {
public:
    Mat() = default;
    Mat(int wide, int high, int channels)
        : dims(3),
          w(wide),
          h(high),
          c(channels),
          step_((static_cast<size_t>(wide) * static_cast<size_t>(high) + 3) / 4 * 4),
          data_(step_ * static_cast<size_t>(channels)) {}
    Mat channel(int at) const { return Mat(*this, at); }
    operator float*() { return first(); }
    operator const float*() const { return const_cast<Mat*>(this)->first(); }
    int dims = 0, w = 0, h = 0, c = 0;
    size_t elemsize = 4;

private:
    Mat(const Mat& whole, int at) : dims(2), w(whole.w), h(whole.h), c(1), whole_(const_cast<Mat*>(&whole)), at_(at) {}
    float* first() { return whole_ ? whole_->data_.data() + static_cast<size_t>(at_) * whole_->step_ : data_.data(); }

    size_t step_ = 0;
    std::vector<float> data_;
    Mat* whole_ = nullptr;  // of a channel
    int at_ = 0;
};

struct Option {
    int num_threads = 1;
    bool use_fp16_packed = true, use_fp16_storage = true, use_fp16_arithmetic = true, use_bf16_storage = true;
    bool use_winograd63_convolution = true, use_winograd43_convolution = true, use_sgemm_convolution = true;
};

class Extractor {
public:
    int input(const char* name, const Mat& mat) {
        mat_ = mat;
        return std::string(name) == "x" ? 0 : -1;
    }
    int extract(const char* name, Mat& made) {
        made = mat_;
        return std::string(name) == "y" ? 0 : -1;
    }

private:
    Mat mat_;
};

class Net {
public:
    int load_param(const char* path) {
        int number = 0;
        std::ifstream(path) >> number;
        return number == 7767517 ? 0 : -1;
    }
    int load_model(const char* path) { return std::ifstream(path) ? 0 : -1; }
    Extractor create_extractor() const { return Extractor(); }
    Option opt;
};

}  // namespace ncnn
