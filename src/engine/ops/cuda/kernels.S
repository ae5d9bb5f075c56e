// The fat binary that nvcc made of kernels.cu, as data.
        .section .rodata
        .balign 16
        .global mlxs_cuda_kernels
mlxs_cuda_kernels:
        .incbin MLXS_CUDA_KERNELS
        .section .note.GNU-stack, "", @progbits
