# The Rust text crate (rust/text), built by cargo as mlxs_rust_text. Cargo
# says which sources the library was made of, so it is built again when one of them changes. Once
# the crates have been fetched, no network is needed.
find_program(MLXS_CARGO cargo
  HINTS ENV CARGO
  PATHS $ENV{HOME}/.cargo/bin /usr/share/cargo/bin
  DOC "Cargo, 1.87 or newer")
if(DEFINED ENV{CARGO} AND EXISTS $ENV{CARGO})
  set(MLXS_CARGO $ENV{CARGO} CACHE FILEPATH "Cargo, 1.87 or newer" FORCE)
endif()
if(NOT MLXS_CARGO)
  message(FATAL_ERROR "cargo was not found; scripts/setup.sh installs it, or set MLXS_CARGO")
endif()

set(MLXS_RUST_TEXT_SOURCE ${CMAKE_SOURCE_DIR}/rust/text)
# One for all presets: C++ flags and sanitizers mean nothing to cargo.
set(MLXS_RUST_TEXT_TARGET ${CMAKE_SOURCE_DIR}/build/rust)
set(MLXS_RUST_TEXT_LIBRARY ${MLXS_RUST_TEXT_TARGET}/release/libmlxs_text.a)
set(MLXS_RUST_TEXT_ARGS --locked --release
  --manifest-path ${MLXS_RUST_TEXT_SOURCE}/Cargo.toml --target-dir ${MLXS_RUST_TEXT_TARGET})
add_custom_command(OUTPUT ${MLXS_RUST_TEXT_LIBRARY}
  COMMAND ${MLXS_CARGO} build --lib ${MLXS_RUST_TEXT_ARGS}
  # Cargo leaves a library alone that would come out the same.
  COMMAND ${CMAKE_COMMAND} -E touch ${MLXS_RUST_TEXT_LIBRARY}
  DEPENDS ${MLXS_RUST_TEXT_SOURCE}/Cargo.toml ${MLXS_RUST_TEXT_SOURCE}/Cargo.lock
  DEPFILE ${MLXS_RUST_TEXT_TARGET}/release/libmlxs_text.d
  COMMENT "Building rust/text"
  USES_TERMINAL VERBATIM)
add_custom_target(mlxs_rust_text_build DEPENDS ${MLXS_RUST_TEXT_LIBRARY})

add_library(mlxs_rust_text STATIC IMPORTED GLOBAL)
set_target_properties(mlxs_rust_text PROPERTIES
  IMPORTED_LOCATION ${MLXS_RUST_TEXT_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${MLXS_RUST_TEXT_SOURCE}/include)
target_link_libraries(mlxs_rust_text INTERFACE Threads::Threads ${CMAKE_DL_LIBS})
if(UNIX AND NOT APPLE)
  target_link_libraries(mlxs_rust_text INTERFACE m)
else()
  target_link_libraries(mlxs_rust_text INTERFACE iconv)
endif()
add_dependencies(mlxs_rust_text mlxs_rust_text_build)

# Sanitizers see nothing of Rust code, so its own tests run where there are none.
if(MLXS_TESTS AND NOT MLXS_SANITIZE)
  add_test(NAME rust_text COMMAND ${MLXS_CARGO} test --quiet ${MLXS_RUST_TEXT_ARGS})
  set_tests_properties(rust_text PROPERTIES LABELS unit TIMEOUT 600)
endif()
