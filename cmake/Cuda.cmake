# Kernels of our own for CUDA: nvcc (from its wheel) turns a .cu into a fat binary, machine code for
# Hopper and PTX for what comes before and after it, and an assembler file embeds that. Host code
# stays with the host's compiler and calls the driver, so no CUDA runtime is linked.
enable_language(ASM)

# mlxs_cuda_kernels(SOURCE): the .cu that cuda/kernels.S of this folder embeds.
function(mlxs_cuda_kernels source)
  set(input ${CMAKE_CURRENT_SOURCE_DIR}/${source})
  set(binary ${CMAKE_CURRENT_BINARY_DIR}/kernels.fatbin)
  add_custom_command(OUTPUT ${binary}
    COMMAND ${MLXS_NVCC_ROOT}/nvidia/cu13/bin/nvcc -std=c++20 --expt-relaxed-constexpr -I ${CMAKE_SOURCE_DIR}/src
      -gencode=arch=compute_90a,code=sm_90a -gencode=arch=compute_80,code=compute_80
      -MD -MF ${binary}.d -MT ${binary} -fatbin ${input} -o ${binary}
    DEPENDS ${input} DEPFILE ${binary}.d
    COMMENT "Compiling ${source}" VERBATIM)
  set_source_files_properties(cuda/kernels.S PROPERTIES
    COMPILE_DEFINITIONS MLXS_CUDA_KERNELS="${binary}" OBJECT_DEPENDS ${binary})
endfunction()
