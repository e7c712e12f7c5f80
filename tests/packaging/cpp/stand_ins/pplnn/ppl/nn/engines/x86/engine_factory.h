// A stand-in for the part of PPLNN that runner.hpp calls. Its runtime gives its input out.
#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstring>
#include <vector>

namespace ppl {
namespace common {
typedef uint32_t RetCode;
typedef uint32_t datatype_t;
typedef uint32_t dataformat_t;
enum { RC_SUCCESS = 0, RC_NOT_FOUND = 4 };
enum { DATATYPE_FLOAT32 = 6, DATATYPE_INT64 = 10 };
enum { DATAFORMAT_NDARRAY = 1 };
inline const char* GetRetCodeStr(RetCode) { return "not found"; }
}  // namespace common

namespace nn {

class TensorShape {
public:
    void Reshape(const std::vector<int64_t>& dims) { dims_ = dims; }
    void SetDataType(common::datatype_t type) { type_ = type; }
    void SetDataFormat(common::dataformat_t) {}
    common::datatype_t GetDataType() const { return type_; }
    uint32_t GetDimCount() const { return static_cast<uint32_t>(dims_.size()); }
    int64_t GetDim(uint32_t at) const { return dims_[at]; }
    size_t count() const {
        size_t made = 1;
        for (int64_t side : dims_) made *= static_cast<size_t>(side);
        return made;
    }

private:
    std::vector<int64_t> dims_;
    common::datatype_t type_ = common::DATATYPE_FLOAT32;
};

class Tensor {
public:
    TensorShape* GetShape() const { return &shape_; }
    common::RetCode ConvertFromHost(const void* from, const TensorShape& shape) {
        data.resize(shape.count());
        std::memcpy(data.data(), from, data.size() * sizeof(float));
        return common::RC_SUCCESS;
    }
    common::RetCode ConvertToHost(void* to, const TensorShape&) const {
        std::memcpy(to, data.data(), data.size() * sizeof(float));
        return common::RC_SUCCESS;
    }
    std::vector<float> data;

private:
    mutable TensorShape shape_;
};

class Engine {
public:
    virtual ~Engine() {}
    common::RetCode Configure(uint32_t, ...) { return common::RC_SUCCESS; }
};

class Runtime {
public:
    uint32_t GetInputCount() const { return 1; }
    uint32_t GetOutputCount() const { return 1; }
    Tensor* GetInputTensor(uint32_t) { return &input_; }
    Tensor* GetOutputTensor(uint32_t) { return &output_; }
    common::RetCode Run() {
        output_ = input_;
        return common::RC_SUCCESS;
    }

private:
    Tensor input_, output_;
};

namespace x86 {
enum { ENGINE_CONF_GRAPH_FUSION = 0 };
enum { MM_COMPACT = 0, MM_MRU = 1 };
struct EngineOptions {
    uint32_t mm_policy = MM_COMPACT;
    bool disable_avx512 = false, disable_avx_fma3 = false;
};
struct EngineFactory {
    static Engine* Create(const EngineOptions&) { return new Engine; }
};
}  // namespace x86
}  // namespace nn
}  // namespace ppl
