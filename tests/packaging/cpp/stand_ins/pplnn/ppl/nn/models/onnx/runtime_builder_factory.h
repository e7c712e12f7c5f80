// See engine_factory.h. A model that does not exist is refused.
#pragma once
#include <fstream>

#include "ppl/nn/engines/x86/engine_factory.h"

namespace ppl {
namespace nn {
namespace onnx {

class RuntimeBuilder {
public:
    struct Resources {
        Engine** engines = nullptr;
        uint32_t engine_num = 0;
    };
    common::RetCode LoadModel(const char* path) {
        return std::ifstream(path) ? common::RetCode(common::RC_SUCCESS) : common::RetCode(common::RC_NOT_FOUND);
    }
    common::RetCode SetResources(const Resources&) { return common::RC_SUCCESS; }
    common::RetCode Preprocess() { return common::RC_SUCCESS; }
    Runtime* CreateRuntime() const { return new Runtime; }
};

struct RuntimeBuilderFactory {
    static RuntimeBuilder* Create() { return new RuntimeBuilder; }
};

}  // namespace onnx
}  // namespace nn
}  // namespace ppl
