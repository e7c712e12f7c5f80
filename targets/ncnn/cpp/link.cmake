# -Dncnn_DIR=DIR: the folder of ncnnConfig.cmake, lib/cmake/ncnn of an installed build
find_package(ncnn REQUIRED)
target_link_libraries(segment PRIVATE ncnn)
