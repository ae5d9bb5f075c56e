# MLX comes from its wheel, unpacked by scripts/setup.sh into build/deps/mlx.
set(MLXS_NVCC_ROOT ${CMAKE_SOURCE_DIR}/build/deps/nvcc CACHE PATH "Unpacked wheels of NVIDIA's compiler")
set(MLXS_MLX_ROOT ${CMAKE_SOURCE_DIR}/build/deps/mlx CACHE PATH "Unpacked MLX wheel")
add_library(mlxs_mlx INTERFACE)
target_include_directories(mlxs_mlx SYSTEM INTERFACE ${MLXS_MLX_ROOT}/mlx/include)
if(MLXS_CUDA)
  # The wheel's own package wants the CUDA toolkit and cuDNN, which only the machine that runs it has.
  add_library(mlx SHARED IMPORTED)
  set_target_properties(mlx PROPERTIES IMPORTED_LOCATION ${MLXS_MLX_ROOT}/mlx/lib/libmlx.so)
  target_include_directories(mlxs_mlx SYSTEM INTERFACE ${MLXS_NVCC_ROOT}/nvidia/cu13/include)
  target_compile_definitions(mlxs_mlx INTERFACE MLXS_CUDA)
  target_link_options(mlxs_mlx INTERFACE "LINKER:--allow-shlib-undefined")
else()
  find_package(MLX CONFIG REQUIRED PATHS ${MLXS_MLX_ROOT}/mlx/share/cmake/MLX NO_DEFAULT_PATH)
endif()
if(UNIX AND NOT APPLE AND NOT MLXS_CUDA)
  # The wheel links the slow reference BLAS. OpenBLAS has to come before libmlx in the link order, so
  # that the dynamic linker finds its cblas_* first, and must not be dropped as unneeded.
  find_library(MLXS_OPENBLAS openblas REQUIRED
    PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-pthread NO_CACHE)
  find_path(MLXS_CBLAS_INCLUDE_DIR cblas.h REQUIRED
    PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-pthread NO_CACHE)
  target_include_directories(mlxs_mlx SYSTEM INTERFACE ${MLXS_CBLAS_INCLUDE_DIR})
  target_compile_definitions(mlxs_mlx INTERFACE MLXS_OPENBLAS)
  target_link_options(mlxs_mlx INTERFACE "LINKER:--no-as-needed" ${MLXS_OPENBLAS} "LINKER:--as-needed")
endif()
target_link_libraries(mlxs_mlx INTERFACE mlx)
