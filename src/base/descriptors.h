#pragma once

namespace mlxs {

/// Raises this process's bound on open descriptors as far as it may, for itself and the children it
/// starts: a shell's usual 1024 (256 on macOS) are fewer than the connections of `limits`.
void allow_many_descriptors();

}  // namespace mlxs
