# slipstick_kernels: the .cu files of all rooms as one static library over the static CUDA runtime. They are found as the .cpp files are.
#
# For the devices of CMAKE_CUDA_ARCHITECTURES; by default Turing, Ampere, Hopper, Blackwell and, as PTX that drivers translate, what comes later.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 90-real 100-real 120)
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

set(KERNELS "")
foreach(FOLDER base losses lowbit sketch)
  file(GLOB SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/${FOLDER}/*.cu)
  list(APPEND KERNELS ${SOURCES})
endforeach()
add_library(slipstick_kernels STATIC ${KERNELS})
target_include_directories(slipstick_kernels PUBLIC ${PROJECT_SOURCE_DIR}/cpp/include PRIVATE ${PROJECT_SOURCE_DIR}/cpp)
target_link_libraries(slipstick_kernels PUBLIC CUDA::cudart_static)
# nvcc does not know the options of the other compiler. It fuses a * b + c as that one does unless told not to.
set_target_properties(slipstick_kernels PROPERTIES
  COMPILE_OPTIONS "--fmad=false;-Xcompiler=-Wall,-Wextra"
  CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON CUDA_VISIBILITY_PRESET hidden POSITION_INDEPENDENT_CODE ON)
