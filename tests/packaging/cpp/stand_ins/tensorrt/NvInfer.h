// A stand-in for the part of TensorRT that runner.hpp calls, with the signatures of TensorRT 10 and 11. Its engine
// gives its input out; a plan that does not begin with "plan" is refused.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "cuda_runtime_api.h"

namespace nvinfer1 {

class Dims64 {
public:
    int32_t nbDims;
    int64_t d[8];
};
using Dims = Dims64;
enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4, kUINT8 = 5, kINT64 = 8 };
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };

class ILogger {
public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, char const* message) noexcept = 0;
    virtual ~ILogger() = default;
};

class IExecutionContext {
public:
    virtual ~IExecutionContext() noexcept = default;
    bool setInputShape(char const*, Dims const& dims) noexcept {
        dims_ = dims;
        return dims.nbDims == 4 && dims.d[3] <= 1000;
    }
    Dims getTensorShape(char const*) const noexcept { return dims_; }
    bool setTensorAddress(char const* name, void* data) noexcept {
        (std::strcmp(name, "x") == 0 ? input_ : output_) = data;
        return true;
    }
    bool enqueueV3(cudaStream_t) noexcept {
        size_t count = 1;
        for (int32_t i = 0; i < dims_.nbDims; i++) count *= static_cast<size_t>(dims_.d[i]);
        std::memcpy(output_, input_, count * sizeof(float));
        return true;
    }

private:
    Dims dims_{};
    void *input_ = nullptr, *output_ = nullptr;
};

class ICudaEngine {
public:
    virtual ~ICudaEngine() noexcept = default;
    IExecutionContext* createExecutionContext() noexcept { return new IExecutionContext; }
    int32_t getNbIOTensors() const noexcept { return 2; }
    char const* getIOTensorName(int32_t at) const noexcept { return at == 0 ? "x" : "y"; }
    TensorIOMode getTensorIOMode(char const* name) const noexcept {
        return std::strcmp(name, "x") == 0 ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    DataType getTensorDataType(char const*) const noexcept { return DataType::kFLOAT; }
};

class IRuntime {
public:
    explicit IRuntime(ILogger& log) : log_(log) {}
    virtual ~IRuntime() noexcept = default;
    ICudaEngine* deserializeCudaEngine(void const* plan, std::size_t size) noexcept {
        if (size >= 4 && std::memcmp(plan, "plan", 4) == 0) return new ICudaEngine;
        log_.log(ILogger::Severity::kERROR, "the plan is of another version");
        return nullptr;
    }

private:
    ILogger& log_;
};

inline IRuntime* createInferRuntime(ILogger& log) noexcept { return new IRuntime(log); }

}  // namespace nvinfer1
