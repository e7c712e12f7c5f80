# -DOpenVINO_DIR=DIR: the folder of OpenVINOConfig.cmake, in a release or openvino/cmake of the Python package
find_package(OpenVINO REQUIRED COMPONENTS Runtime)
target_link_libraries(segment PRIVATE openvino::runtime::c)
