// Runs the engine in ONNX Runtime, by its C API. The table of functions that the library gives only ever grows at its
// end, so the part declared here holds for every release from 1.0 on, and no header of ONNX Runtime is needed.
#include "segc.hpp"

#include <functional>

extern "C" {
struct OrtStatus;
struct OrtEnv;
struct OrtSession;
struct OrtSessionOptions;
struct OrtRunOptions;
struct OrtValue;
struct OrtMemoryInfo;
struct OrtTensorTypeAndShapeInfo;
struct OrtApiBase {
    const void* const* (*table)(uint32_t version);
    const char* (*version)();
};
const OrtApiBase* OrtGetApiBase(void);
}

// The functions of ONNX Runtime that are called here, and their places in its table.
struct OrtFunctions {
#ifdef _WIN32
    using Name = wchar_t;
#else
    using Name = char;
#endif
    explicit OrtFunctions(const void* const* table) {
        take(table, 2, &message);
        take(table, 3, &create_env);
        take(table, 7, &create_session);
        take(table, 9, &run);
        take(table, 10, &create_options);
        take(table, 24, &set_threads);
        take(table, 49, &create_tensor);
        take(table, 51, &data);
        take(table, 60, &type);
        take(table, 61, &rank);
        take(table, 62, &sides);
        take(table, 65, &shape);
        take(table, 69, &create_memory);
        take(table, 92, &release_env);
        take(table, 93, &release_status);
        take(table, 94, &release_memory);
        take(table, 95, &release_session);
        take(table, 96, &release_value);
        take(table, 99, &release_shape);
        take(table, 100, &release_options);
    }

    const char* (*message)(const OrtStatus*);
    OrtStatus* (*create_env)(int log_level, const char* name, OrtEnv**);
    OrtStatus* (*create_session)(const OrtEnv*, const Name* path, const OrtSessionOptions*, OrtSession**);
    OrtStatus* (*run)(OrtSession*, const OrtRunOptions*, const char* const* inputs, const OrtValue* const*, size_t,
                      const char* const* outputs, size_t, OrtValue**);
    OrtStatus* (*create_options)(OrtSessionOptions**);
    OrtStatus* (*set_threads)(OrtSessionOptions*, int);
    OrtStatus* (*create_tensor)(const OrtMemoryInfo*, void* data, size_t bytes, const int64_t* shape, size_t rank,
                                int type, OrtValue**);
    OrtStatus* (*data)(OrtValue*, void**);
    OrtStatus* (*type)(const OrtTensorTypeAndShapeInfo*, int*);
    OrtStatus* (*rank)(const OrtTensorTypeAndShapeInfo*, size_t*);
    OrtStatus* (*sides)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t rank);
    OrtStatus* (*shape)(const OrtValue*, OrtTensorTypeAndShapeInfo**);
    OrtStatus* (*create_memory)(int allocator, int kind, OrtMemoryInfo**);
    void (*release_env)(OrtEnv*);
    void (*release_status)(OrtStatus*);
    void (*release_memory)(OrtMemoryInfo*);
    void (*release_session)(OrtSession*);
    void (*release_value)(OrtValue*);
    void (*release_shape)(OrtTensorTypeAndShapeInfo*);
    void (*release_options)(OrtSessionOptions*);

private:
    template <typename Function>
    static void take(const void* const* table, size_t place, Function* function) {
        *function = reinterpret_cast<Function>(const_cast<void*>(table[place]));
    }
};

class Runner : public segc::Network {
public:
    Runner(const std::string& bundle, const segc::Manifest& manifest, int threads)
        : ort_(table()), input_(manifest.input.name), output_(manifest.output.name) {
        if (manifest.target != "onnxruntime")
            throw segc::Error(segc::Kind::usage, "the bundle is for " + manifest.target);
        env_ = made<OrtEnv>(ort_.release_env, [&](OrtEnv** out) { return ort_.create_env(kLogErrors, "segc", out); });
        const auto options = made<OrtSessionOptions>(ort_.release_options, ort_.create_options);
        check(ort_.set_threads(options.get(), threads));
        const std::string path = bundle + "/model.onnx";
        const std::basic_string<OrtFunctions::Name> name(path.begin(), path.end());
        session_ = made<OrtSession>(ort_.release_session, [&](OrtSession** out) {
            return ort_.create_session(env_.get(), name.c_str(), options.get(), out);
        });
        memory_ = made<OrtMemoryInfo>(ort_.release_memory,
                                      [&](OrtMemoryInfo** out) { return ort_.create_memory(kArena, kDefault, out); });
    }

    segc::NetworkOutput run(const segc::NetworkInput& x, bool) override {
        const bool images = !x.images.empty();
        const void* data = images ? static_cast<const void*>(x.images.data()) : x.floats.data();
        const size_t bytes = images ? x.images.size() : x.floats.size() * sizeof(float);
        const auto given = made<OrtValue>(ort_.release_value, [&](OrtValue** out) {
            return ort_.create_tensor(memory_.get(), const_cast<void*>(data), bytes, x.shape.data(), x.shape.size(),
                                      images ? kUint8 : kFloat, out);
        });
        const char *inputs[] = {input_.c_str()}, *outputs[] = {output_.c_str()};
        const OrtValue* values[] = {given.get()};
        const auto result = made<OrtValue>(ort_.release_value, [&](OrtValue** out) {
            return ort_.run(session_.get(), nullptr, inputs, values, 1, outputs, 1, out);
        });
        return taken(result.get());
    }

private:
    // Values of enums of the C API.
    static constexpr int kLogErrors = 3, kArena = 1, kDefault = 0;
    static constexpr int kFloat = 1, kUint8 = 2, kUint16 = 4, kInt32 = 6, kInt64 = 7;

    template <typename T>
    using Held = std::unique_ptr<T, std::function<void(T*)>>;

    static const void* const* table() {
        const void* const* found = OrtGetApiBase()->table(1);
        if (found == nullptr) throw segc::Error(segc::Kind::engine, "this ONNX Runtime does not offer its C API");
        return found;
    }

    void check(OrtStatus* status) const {
        if (status == nullptr) return;
        const std::string what = ort_.message(status);
        ort_.release_status(status);
        throw segc::Error(segc::Kind::engine, "ONNX Runtime: " + what);
    }

    template <typename T, typename Make>
    Held<T> made(void (*release)(T*), Make make) const {
        T* value = nullptr;
        check(make(&value));
        return Held<T>(value, release);
    }

    segc::NetworkOutput taken(OrtValue* value) const {
        const auto info = made<OrtTensorTypeAndShapeInfo>(
            ort_.release_shape, [&](OrtTensorTypeAndShapeInfo** out) { return ort_.shape(value, out); });
        int type = 0;
        size_t rank = 0;
        void* data = nullptr;
        check(ort_.type(info.get(), &type));
        check(ort_.rank(info.get(), &rank));
        segc::NetworkOutput output;
        output.shape.resize(rank);
        check(ort_.sides(info.get(), output.shape.data(), rank));
        check(ort_.data(value, &data));
        if (type == kFloat) {
            output.take(static_cast<const float*>(data));
        } else if (type == kUint8) {
            output.take(static_cast<const uint8_t*>(data));
        } else if (type == kUint16) {
            output.take(static_cast<const uint16_t*>(data));
        } else if (type == kInt32) {
            output.take(static_cast<const int32_t*>(data));
        } else if (type == kInt64) {
            output.take(static_cast<const int64_t*>(data));
        } else {
            segc::NetworkOutput::refuse_type();
        }
        return output;
    }

    const OrtFunctions ort_;
    const std::string input_, output_;
    Held<OrtEnv> env_;
    Held<OrtSession> session_;
    Held<OrtMemoryInfo> memory_;
};
