# MLX comes from its wheel, unpacked by scripts/setup.sh into build/deps/mlx.
set(MLXS_MLX_ROOT ${CMAKE_SOURCE_DIR}/build/deps/mlx CACHE PATH "Unpacked MLX wheel")
find_package(MLX CONFIG REQUIRED PATHS ${MLXS_MLX_ROOT}/mlx/share/cmake/MLX NO_DEFAULT_PATH)
add_library(mlxs_mlx INTERFACE)
target_include_directories(mlxs_mlx SYSTEM INTERFACE ${MLXS_MLX_ROOT}/mlx/include)
if(UNIX AND NOT APPLE)
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
