#pragma once

#include "base/error.h"

#include <boost/system/result.hpp>

#include <stdexcept>
#include <string>
#include <utility>

namespace mlxs {

/// A value or an Error (C++20 has no std::expected). Test with `if (!result)`; read with
/// `*result`, `result->`, `result.error()`.
template <class T>
using Result = boost::system::result<T, Error>;

/// `return fail(ErrorCode::kIo, "[gguf] ...")` from any function that returns a Result.
[[nodiscard]] inline Error fail(ErrorCode code, std::string message, std::string param = {}) {
  return Error{code, std::move(message), std::move(param)};
}

/// What `result.value()` throws on an error; found by Boost through argument-dependent lookup.
[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
  throw std::runtime_error(error.message);
}

}  // namespace mlxs

/// Returns the error of `expression` from the enclosing function, else goes on.
#define MLXS_TRY(expression)                                   \
  do {                                                         \
    if (auto mlxs_try_result = (expression); !mlxs_try_result) \
      return std::move(mlxs_try_result).error();               \
  } while (false)
