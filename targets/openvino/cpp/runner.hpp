// Runs the engine in OpenVINO, by its C API.
#include "segc.hpp"

#include <functional>

#include <openvino/c/openvino.h>

class Runner : public segc::Network {
public:
    Runner(const std::string& bundle, const segc::Manifest& manifest, int threads) {
        if (manifest.target != "openvino") throw segc::Error(segc::Kind::usage, "the bundle is for " + manifest.target);
        const auto core = made<ov_core_t>(ov_core_free, [](ov_core_t** out) { return ov_core_create(out); });
        for (const auto& option : manifest.options) {
            check(ov_core_set_property(core.get(), "CPU", option.first.c_str(), option.second.c_str()));
        }
        if (threads > 0)
            check(ov_core_set_property(core.get(), "CPU", "INFERENCE_NUM_THREADS", std::to_string(threads).c_str()));
        const std::string path = bundle + "/model.xml";
        model_ = made<ov_compiled_model_t>(ov_compiled_model_free, [&](ov_compiled_model_t** out) {
            return ov_core_compile_model_from_file(core.get(), path.c_str(), "CPU", 0, out);
        });
        request_ = made<ov_infer_request_t>(ov_infer_request_free, [&](ov_infer_request_t** out) {
            return ov_compiled_model_create_infer_request(model_.get(), out);
        });
    }

    segc::NetworkOutput run(const segc::NetworkInput& x, bool) override {
        const bool images = !x.images.empty();
        const void* data = images ? static_cast<const void*>(x.images.data()) : x.floats.data();
        ov_shape_t shape{static_cast<int64_t>(x.shape.size()), const_cast<int64_t*>(x.shape.data())};
        const auto given = made<ov_tensor_t>(ov_tensor_free, [&](ov_tensor_t** out) {
            return ov_tensor_create_from_host_ptr(images ? U8 : F32, shape, const_cast<void*>(data), out);
        });
        check(ov_infer_request_set_input_tensor(request_.get(), given.get()));
        check(ov_infer_request_infer(request_.get()));
        const auto result = made<ov_tensor_t>(
            ov_tensor_free, [&](ov_tensor_t** out) { return ov_infer_request_get_output_tensor(request_.get(), out); });
        return taken(result.get());
    }

private:
    template <typename T>
    using Held = std::unique_ptr<T, std::function<void(T*)>>;

    static void check(ov_status_e status) {
        if (status == OK) return;
        const char* said = ov_get_last_err_msg();
        const std::string what = said != nullptr && said[0] != '\0' ? said : ov_get_error_info(status);
        throw segc::Error(segc::Kind::engine, "OpenVINO: " + what);
    }

    template <typename T, typename Make>
    static Held<T> made(void (*release)(T*), Make make) {
        T* value = nullptr;
        check(make(&value));
        return Held<T>(value, release);
    }

    static segc::NetworkOutput taken(ov_tensor_t* tensor) {
        ov_shape_t shape{};
        ov_element_type_e type{};
        void* data = nullptr;
        check(ov_tensor_get_shape(tensor, &shape));
        segc::NetworkOutput output;
        output.shape.assign(shape.dims, shape.dims + shape.rank);
        check(ov_shape_free(&shape));
        check(ov_tensor_get_element_type(tensor, &type));
        check(ov_tensor_data(tensor, &data));
        if (type == F32) {
            output.take(static_cast<const float*>(data));
        } else if (type == U8) {
            output.take(static_cast<const uint8_t*>(data));
        } else if (type == U16) {
            output.take(static_cast<const uint16_t*>(data));
        } else if (type == I32) {
            output.take(static_cast<const int32_t*>(data));
        } else if (type == I64) {
            output.take(static_cast<const int64_t*>(data));
        } else {
            segc::NetworkOutput::refuse_type();
        }
        return output;
    }

    Held<ov_compiled_model_t> model_;
    Held<ov_infer_request_t> request_;
};
