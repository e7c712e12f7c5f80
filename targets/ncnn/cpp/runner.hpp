// Runs the engine in ncnn, by its C++ API.
#include "segc.hpp"

#include <net.h>

class Runner : public segc::Network {
public:
    Runner(const std::string& bundle, const segc::Manifest& manifest, int threads) : options_(manifest.options) {
        if (manifest.target != "ncnn") throw segc::Error(segc::Kind::usage, "the bundle is for " + manifest.target);
        ncnn::Option& opt = net_.opt;  // before the files: layers choose the form of their weights
        opt.use_fp16_packed = on("use_fp16_packed", false);
        opt.use_fp16_storage = on("use_fp16_storage", false);
        opt.use_fp16_arithmetic = on("use_fp16_arithmetic", false);
        opt.use_bf16_storage = on("use_bf16_storage", false);
        opt.use_winograd63_convolution = on("use_winograd63_convolution", false);
        opt.use_winograd43_convolution = on("use_winograd43_convolution", true);
        opt.use_sgemm_convolution = on("use_sgemm_convolution", true);
        if (threads > 0) opt.num_threads = threads;
        if (net_.load_param((bundle + "/model.param").c_str()) || net_.load_model((bundle + "/model.bin").c_str())) {
            throw segc::Error(segc::Kind::engine, "ncnn cannot load the engine");
        }
    }

    segc::NetworkOutput run(const segc::NetworkInput& x, bool logits) override {
        ncnn::Mat input(static_cast<int>(x.shape[3]), static_cast<int>(x.shape[2]), static_cast<int>(x.shape[1]));
        const size_t plane = x.floats.size() / static_cast<size_t>(x.shape[1]);
        for (int c = 0; c < input.c; c++) {  // channels may be padded
            std::copy_n(x.floats.begin() + static_cast<std::ptrdiff_t>(plane * static_cast<size_t>(c)), plane,
                        static_cast<float*>(input.channel(c)));
        }
        ncnn::Extractor extractor = net_.create_extractor();
        ncnn::Mat made;
        if (extractor.input(options_.at("input").c_str(), input) ||
            extractor.extract(options_.at(logits ? "logits" : "output").c_str(), made)) {
            throw segc::Error(segc::Kind::engine, "the ncnn engine fails");
        }
        return taken(made, logits ? 3 : std::stoi(options_.at("rank")));
    }

private:
    bool on(const char* name, bool otherwise) const {
        const auto found = options_.find(name);
        return found == options_.end() ? otherwise : found->second == "true";
    }

    // Values are floats in memory, whatever they stand for. rank: of the result without the batch.
    static segc::NetworkOutput taken(const ncnn::Mat& made, int rank) {
        segc::NetworkOutput output;
        if (made.dims == 3) output.shape = {made.c, made.h, made.w};
        if (made.dims == 2) output.shape = {made.h, made.w};
        if (made.dims == 1) output.shape = {made.w};
        if (output.shape.empty() || made.elemsize != 4) segc::NetworkOutput::refuse_type();
        while (static_cast<int>(output.shape.size()) < rank) output.shape.insert(output.shape.begin(), 1);
        output.shape.insert(output.shape.begin(), 1);
        std::vector<float> values;
        const size_t plane = static_cast<size_t>(made.w) * static_cast<size_t>(made.h);
        for (int c = 0; c < made.c; c++) {
            const float* first =
                made.dims == 3 ? static_cast<const float*>(made.channel(c)) : static_cast<const float*>(made);
            values.insert(values.end(), first, first + plane);
        }
        output.take(values.data());
        return output;
    }

    ncnn::Net net_;
    const std::map<std::string, std::string> options_;
};
