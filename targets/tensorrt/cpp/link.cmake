# -DTENSORRT=DIR: the folder of a release of TensorRT or of TensorRT for RTX, with include/ and lib/; the one that the
# engine was built with, see engine.json. CMake finds the CUDA toolkit by itself, or by -DCUDAToolkit_ROOT=DIR.
set(TENSORRT "" CACHE PATH "The folder of TensorRT, with include/ and lib/")
find_package(CUDAToolkit REQUIRED)
find_path(SEGC_TENSORRT_INCLUDE NvInfer.h HINTS ${TENSORRT}/include)
find_library(SEGC_TENSORRT_LIBRARY NAMES nvinfer tensorrt_rtx HINTS ${TENSORRT}/lib)
if(NOT SEGC_TENSORRT_INCLUDE OR NOT SEGC_TENSORRT_LIBRARY)
  message(FATAL_ERROR "TensorRT is not found: name its folder, -DTENSORRT=DIR")
endif()
target_include_directories(segment PRIVATE ${SEGC_TENSORRT_INCLUDE})
target_link_libraries(segment PRIVATE ${SEGC_TENSORRT_LIBRARY} CUDA::cudart)
