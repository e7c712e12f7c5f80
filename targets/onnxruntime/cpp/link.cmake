# -DONNXRUNTIME=DIR: the folder with libonnxruntime: `lib` of a release, or onnxruntime/capi of the Python package
set(ONNXRUNTIME "" CACHE PATH "The folder with libonnxruntime")
file(GLOB SEGC_ONNXRUNTIME ${ONNXRUNTIME}/libonnxruntime.so* ${ONNXRUNTIME}/libonnxruntime*.dylib ${ONNXRUNTIME}/onnxruntime.lib)
if(NOT ONNXRUNTIME OR NOT SEGC_ONNXRUNTIME)
  message(FATAL_ERROR "ONNX Runtime is not found: name the folder with libonnxruntime, -DONNXRUNTIME=DIR")
endif()
list(GET SEGC_ONNXRUNTIME -1 SEGC_ONNXRUNTIME)
if(UNIX AND NOT APPLE)
  # the Python package has the library without the name that programs look for
  file(CREATE_LINK ${SEGC_ONNXRUNTIME} ${CMAKE_BINARY_DIR}/libonnxruntime.so.1 SYMBOLIC)
  set(SEGC_ONNXRUNTIME ${CMAKE_BINARY_DIR}/libonnxruntime.so.1)
endif()
target_link_libraries(segment PRIVATE ${SEGC_ONNXRUNTIME})
