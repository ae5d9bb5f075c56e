# Warnings for our own code only; third-party headers come in as SYSTEM.
add_library(mlxs_warnings INTERFACE)
target_compile_options(mlxs_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wnon-virtual-dtor -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports these inside inlined Boost and standard-library code that is correct.
  target_compile_options(mlxs_warnings INTERFACE
    -Wno-error=maybe-uninitialized -Wno-error=stringop-overflow -Wno-error=array-bounds
    -Wno-error=restrict)
else()
  # libstdc++ 12's own stable_sort calls what it deprecates.
  target_compile_options(mlxs_warnings INTERFACE -Wthread-safety -Wno-error=deprecated-declarations)
endif()
