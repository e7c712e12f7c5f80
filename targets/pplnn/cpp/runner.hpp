// Runs the engine in PPLNN on x86, by its C++ API. The bundle's README has a program for CUDA.
#include "segc.hpp"

#include <cstdlib>

#include "ppl/nn/engines/x86/engine_factory.h"
#include "ppl/nn/models/onnx/runtime_builder_factory.h"

class Runner : public segc::Network {
public:
    Runner(const std::string& bundle, const segc::Manifest& manifest, int threads) {
        if (manifest.target != "pplnn") throw segc::Error(segc::Kind::usage, "the bundle is for " + manifest.target);
        const std::vector<uint8_t> content = segc::read_file(bundle + "/pplnn.json", segc::Kind::bundle, 1 << 20);
        const segc::Json json = segc::JsonReader(std::string(content.begin(), content.end())).read();
        const segc::Field settings(json, "pplnn.json");
        if (settings.at("device").text() != "x86") {
            throw segc::Error(segc::Kind::unsupported, "the engine is for the device " + settings.at("device").text() +
                                                           ", this program runs x86");
        }
#ifndef _WIN32
        if (threads > 0) setenv("OMP_NUM_THREADS", std::to_string(threads).c_str(), 1);  // read at the first run
#endif
        const segc::Field x86 = settings.at("x86");
        ppl::nn::x86::EngineOptions options;
        options.mm_policy = x86.at("mm_policy").text({"MM_MRU", "MM_COMPACT"}) == "MM_MRU" ? ppl::nn::x86::MM_MRU
                                                                                           : ppl::nn::x86::MM_COMPACT;
        options.disable_avx512 = x86.at("disable_avx512").truth();
        options.disable_avx_fma3 = x86.at("disable_avx_fma3").truth();
        engine_.reset(ppl::nn::x86::EngineFactory::Create(options));
        if (!engine_) fail("EngineFactory::Create");
        check("Configure",
              engine_->Configure(ppl::nn::x86::ENGINE_CONF_GRAPH_FUSION, x86.at("graph_fusion").truth() ? 1u : 0u));
        builder_.reset(ppl::nn::onnx::RuntimeBuilderFactory::Create());
        if (!builder_) fail("RuntimeBuilderFactory::Create");
        check("LoadModel", builder_->LoadModel((bundle + "/" + settings.at("model").text({"model.onnx"})).c_str()));
        ppl::nn::Engine* engines[] = {engine_.get()};
        ppl::nn::onnx::RuntimeBuilder::Resources resources;
        resources.engines = engines;
        resources.engine_num = 1;
        check("SetResources", builder_->SetResources(resources));
        check("Preprocess", builder_->Preprocess());
        runtime_.reset(builder_->CreateRuntime());
        if (!runtime_ || runtime_->GetInputCount() != 1 || runtime_->GetOutputCount() != 1) fail("CreateRuntime");
    }

    segc::NetworkOutput run(const segc::NetworkInput& x, bool) override {
        ppl::nn::Tensor* given = runtime_->GetInputTensor(0);
        given->GetShape()->Reshape(x.shape);
        const ppl::nn::TensorShape shape = plain(*given->GetShape(), ppl::common::DATATYPE_FLOAT32);
        check("ConvertFromHost", given->ConvertFromHost(x.floats.data(), shape));
        check("Run", runtime_->Run());
        const ppl::nn::Tensor* made = runtime_->GetOutputTensor(0);
        segc::NetworkOutput output;
        for (uint32_t i = 0; i < made->GetShape()->GetDimCount(); i++)
            output.shape.push_back(made->GetShape()->GetDim(i));
        if (made->GetShape()->GetDataType() == ppl::common::DATATYPE_INT64) {
            take<int64_t>(*made, ppl::common::DATATYPE_INT64, &output);
        } else {
            take<float>(*made, ppl::common::DATATYPE_FLOAT32, &output);
        }
        return output;
    }

private:
    [[noreturn]] static void fail(const std::string& call) {
        throw segc::Error(segc::Kind::engine, "PPLNN reports an error: " + call);
    }
    static void check(const char* call, ppl::common::RetCode status) {
        if (status != ppl::common::RC_SUCCESS) fail(std::string(call) + ": " + ppl::common::GetRetCodeStr(status));
    }

    static ppl::nn::TensorShape plain(ppl::nn::TensorShape shape, ppl::common::datatype_t type) {
        shape.SetDataType(type);
        shape.SetDataFormat(ppl::common::DATAFORMAT_NDARRAY);
        return shape;
    }

    template <typename T>
    static void take(const ppl::nn::Tensor& made, ppl::common::datatype_t type, segc::NetworkOutput* output) {
        std::vector<T> values(output->count());
        check("ConvertToHost", made.ConvertToHost(values.data(), plain(*made.GetShape(), type)));
        output->take(values.data());
    }

    // In this order: a runtime uses its builder and engine to its end.
    std::unique_ptr<ppl::nn::Engine> engine_;
    std::unique_ptr<ppl::nn::onnx::RuntimeBuilder> builder_;
    std::unique_ptr<ppl::nn::Runtime> runtime_;
};
