# -Dpplnn_DIR=DIR: the folder of pplnn-config.cmake, lib/cmake/ppl of an installed build of ppl.nn
find_package(pplnn REQUIRED)
target_include_directories(segment PRIVATE ${PPLNN_INCLUDE_DIRS})
target_link_libraries(segment PRIVATE ${PPLNN_LIBRARIES})
