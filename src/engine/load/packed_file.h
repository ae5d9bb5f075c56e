#pragma once

#include "base/hash.h"
#include "base/result.h"
#include "engine/ops/cpu/packed_matrix.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine {

/// What a model's matrices became, by the name of what they were made of.
using PackedMatrices =
    std::map<std::string, std::vector<std::shared_ptr<const PackedMatrix>>, std::less<>>;

inline constexpr std::string_view kUnfinished = ".part";

/// Packed matrices in a file, so that the next start needs no packing:
///   a header, an index, a checksum for each MiB of data, the data as kernels read it
/// all in the machine's own byte order. `key` stands for everything that the data depends on; a
/// file with another one is not this one.
///
/// Reads all of it into weight memory, several threads at a time, and looks at every checksum.
/// kNotFound: no such file; kCorruptFile, saying why: another version or key, cut short or longer
/// than it says, a checksum that does not fit, an index that makes no sense; kIo.
/// Throws std::bad_alloc.
[[nodiscard]] Result<PackedMatrices> read_packed_file(const std::filesystem::path& path,
                                                      const Sha256& key);

/// Writes the file beside its place, under a name that ends in kUnfinished, and moves it there when
/// it is whole, so that no reader sees half of one. kIo: what the system said, and nothing is left
/// behind; kShuttingDown: `stop` was asked for.
[[nodiscard]] Result<void> write_packed_file(const std::filesystem::path& path,
                                             const Sha256& key,
                                             const PackedMatrices& matrices,
                                             const std::stop_token& stop);

/// Size of the file that `write_packed_file` would write, but for its index.
[[nodiscard]] std::uint64_t packed_bytes(const PackedMatrices& matrices);

/// Finds damage, not forgery: sums of words and sums of those sums, in eight lanes. Whatever single
/// bit is flipped and whatever words change places, it is another number. As fast as memory.
[[nodiscard]] std::uint64_t checksum(std::span<const std::byte> bytes);

}  // namespace mlxs::engine
