// Runs the engine in TensorRT, on the first GPU.
#include "segc.hpp"

#include <functional>
#include <iostream>

#include <NvInfer.h>
#include <cuda_runtime_api.h>

class Runner : public segc::Network {
public:
    Runner(const std::string& bundle, const segc::Manifest& manifest, int) {
        if (manifest.target != "tensorrt") throw segc::Error(segc::Kind::usage, "the bundle is for " + manifest.target);
        if (manifest.options.count("deferred") > 0) {
            throw segc::Error(segc::Kind::bundle,
                              "the engine is not built yet: segc build, on the machine with the GPU");
        }
        const std::vector<uint8_t> plan =
            segc::read_file(bundle + "/model.engine", segc::Kind::bundle, int64_t(1) << 40);
        runtime_.reset(nvinfer1::createInferRuntime(log_));
        if (runtime_) engine_.reset(runtime_->deserializeCudaEngine(plan.data(), plan.size()));
        if (engine_) context_.reset(engine_->createExecutionContext());
        if (!context_) fail("TensorRT does not load the engine");
        for (int32_t at = 0; at < engine_->getNbIOTensors(); at++) {
            const char* name = engine_->getIOTensorName(at);
            (engine_->getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT ? input_ : output_) = name;
        }
        cudaStream_t stream = nullptr;
        check(cudaStreamCreate(&stream));
        stream_.reset(stream);
    }

    segc::NetworkOutput run(const segc::NetworkInput& x, bool) override {
        const bool images = !x.images.empty();
        const void* data = images ? static_cast<const void*>(x.images.data()) : x.floats.data();
        const size_t bytes = images ? x.images.size() : x.floats.size() * sizeof(float);
        nvinfer1::Dims dims{};
        dims.nbDims = static_cast<int32_t>(x.shape.size());
        for (size_t i = 0; i < x.shape.size(); i++) dims.d[i] = static_cast<decltype(dims.d[0] + 0)>(x.shape[i]);
        if (!context_->setInputShape(input_.c_str(), dims)) fail("the engine takes no input of this size");
        segc::NetworkOutput output;
        const nvinfer1::Dims made = context_->getTensorShape(output_.c_str());
        for (int32_t i = 0; i < made.nbDims; i++) output.shape.push_back(made.d[i]);
        const nvinfer1::DataType type = engine_->getTensorDataType(output_.c_str());
        std::vector<uint8_t> result(output.count() * size_of(type));
        void *given = reserve(&given_, bytes), *taken = reserve(&taken_, result.size());
        if (!context_->setTensorAddress(input_.c_str(), given) || !context_->setTensorAddress(output_.c_str(), taken)) {
            fail("the engine takes no memory");
        }
        check(cudaMemcpyAsync(given, data, bytes, cudaMemcpyHostToDevice, stream_.get()));
        if (!context_->enqueueV3(stream_.get())) fail("the engine does not run");
        check(cudaMemcpyAsync(result.data(), taken, result.size(), cudaMemcpyDeviceToHost, stream_.get()));
        check(cudaStreamSynchronize(stream_.get()));
        take(type, result.data(), &output);
        return output;
    }

private:
    // The errors that TensorRT reports; it answers null where something failed, and says why here.
    class Log : public nvinfer1::ILogger {
    public:
        void log(Severity severity, const char* message) noexcept override {
            if (severity <= Severity::kERROR) std::cerr << "TensorRT: " << message << "\n";
        }
    };

    struct Memory {
        size_t bytes = 0;
        std::unique_ptr<void, cudaError_t (*)(void*)> data{nullptr, cudaFree};
    };

    [[noreturn]] static void fail(const std::string& what) { throw segc::Error(segc::Kind::engine, what); }
    static void check(cudaError_t status) {
        if (status != cudaSuccess) fail(std::string("CUDA: ") + cudaGetErrorString(status));
    }

    static void* reserve(Memory* memory, size_t bytes) {
        if (memory->bytes < bytes) {
            memory->data.reset();
            void* data = nullptr;
            check(cudaMalloc(&data, bytes));
            memory->data.reset(data);
            memory->bytes = bytes;
        }
        return memory->data.get();
    }

    static size_t size_of(nvinfer1::DataType type) {
        switch (type) {
            case nvinfer1::DataType::kUINT8: return 1;
            case nvinfer1::DataType::kFLOAT:
            case nvinfer1::DataType::kINT32: return 4;
            case nvinfer1::DataType::kINT64: return 8;
            default: segc::NetworkOutput::refuse_type();
        }
    }

    // Copied into numbers of their own type, whose alignment the bytes do not have.
    template <typename T>
    static void take_as(const uint8_t* data, segc::NetworkOutput* output) {
        std::vector<T> values(output->count());
        std::memcpy(values.data(), data, values.size() * sizeof(T));
        output->take(values.data());
    }

    static void take(nvinfer1::DataType type, const uint8_t* data, segc::NetworkOutput* output) {
        switch (type) {
            case nvinfer1::DataType::kFLOAT: return take_as<float>(data, output);
            case nvinfer1::DataType::kUINT8: return take_as<uint8_t>(data, output);
            case nvinfer1::DataType::kINT32: return take_as<int32_t>(data, output);
            case nvinfer1::DataType::kINT64: return take_as<int64_t>(data, output);
            default: segc::NetworkOutput::refuse_type();
        }
    }

    Log log_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::unique_ptr<nvinfer1::ICudaEngine> engine_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    std::unique_ptr<std::remove_pointer_t<cudaStream_t>, cudaError_t (*)(cudaStream_t)> stream_{nullptr,
                                                                                                cudaStreamDestroy};
    Memory given_, taken_;
    std::string input_, output_;
};
