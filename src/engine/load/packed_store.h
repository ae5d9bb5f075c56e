#pragma once

#include "engine/load/packed_file.h"

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <thread>

namespace mlxs::engine {

/// Where packed weights are kept between starts.
struct PackedFolder {
  std::filesystem::path path;   ///< Made when it is needed.
  std::uint64_t bytes_max = 0;  ///< Of all its files; 0: nothing is kept.
};

/// The packed weights of one model on disk, a file in a folder that models share. Whatever goes
/// wrong there is logged and costs the packing, never the start. Loading thread only.
class PackedStore {
 public:
  /// `made_of`: everything that the packed bytes depend on.
  PackedStore(PackedFolder folder, std::string_view made_of);
  /// Gives up what is still being written.
  ~PackedStore() = default;
  PackedStore(const PackedStore&) = delete;
  PackedStore& operator=(const PackedStore&) = delete;

  /// What an earlier start kept; nothing where there is none. A file that is cut short, damaged or
  /// of another version is removed.
  [[nodiscard]] PackedMatrices read() const;
  /// Writes on a thread of its own, as nobody waits for it. Files that were not used for longest go
  /// until all fit `bytes_max`; what alone does not fit is not kept. Once.
  void keep(PackedMatrices matrices);
  /// Until it is written, or will not be.
  void wait() {
    if (writer_.joinable()) writer_.join();
  }

 private:
  void write(const PackedMatrices& matrices, const std::stop_token& stop) const;
  void make_room(std::uint64_t bytes) const;

  PackedFolder folder_;
  Sha256 key_;
  std::filesystem::path file_;
  std::jthread writer_;
};

}  // namespace mlxs::engine
