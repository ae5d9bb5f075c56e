#include "engine/load/packed_file.h"

#include "engine/load/mapped_file.h"
#include "engine/ops/cpu/weight_memory.h"

#include <fmt/format.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <limits>
#include <optional>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

namespace mlxs::engine {
namespace {

constexpr std::array<char, 8> kMagic = {'M', 'L', 'X', 'S', 'P', 'A', 'C', 'K'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
constexpr std::size_t kAlignment = 64;
constexpr std::uint64_t kIndexBytesMax = std::uint64_t{256} << 20;
constexpr std::uint64_t kDataBytesMax = std::uint64_t{1} << 44;
constexpr std::size_t kThreadsMax = 16;

struct Header {
  std::array<char, 8> magic = kMagic;
  std::uint32_t version = kVersion;
  std::uint32_t entries = 0;
  Sha256 key{};
  std::uint64_t index_bytes = 0;
  std::uint64_t data_bytes = 0;
  std::uint64_t index_checksum = 0;  ///< Of the index and the checksums of the data.
  std::array<std::uint64_t, 6> unused{};
  std::uint64_t own_checksum = 0;  ///< Of all before it.

  [[nodiscard]] std::uint64_t computed_checksum() const {
    return checksum(std::as_bytes(std::span(this, 1)).first(sizeof(Header) - sizeof own_checksum));
  }
  [[nodiscard]] std::size_t pieces() const {
    return static_cast<std::size_t>((data_bytes + kPieceBytes - 1) / kPieceBytes);
  }
  [[nodiscard]] std::uint64_t data_begin() const {
    return sizeof(Header) + index_bytes + pieces() * sizeof(std::uint64_t);
  }
};
static_assert(sizeof(Header) == 128 && std::has_unique_object_representations_v<Header>);

Error damaged(const std::filesystem::path& path, std::string_view how) {
  return fail(ErrorCode::kCorruptFile, fmt::format("[packed] {}: {}", path.string(), how));
}

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

template <class Value>
void append(std::string& out, const Value& value) {
  static_assert(std::is_trivially_copyable_v<Value>);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Takes values off the front of the index.
class IndexReader {
 public:
  explicit IndexReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class Value>
  std::optional<Value> take() {
    Value value{};
    if (rest_.size() < sizeof value) return std::nullopt;
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
    return value;
  }
  std::optional<std::string> take_text(std::size_t size) {
    if (rest_.size() < size) return std::nullopt;
    std::string text(reinterpret_cast<const char*>(rest_.data()), size);
    rest_ = rest_.subspan(size);
    return text;
  }
  [[nodiscard]] bool done() const { return rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
};

/// Of one matrix in the index, behind the length of its name and before the name.
struct Entry {
  std::int32_t rows = 0;
  std::int32_t columns = 0;
  std::uint32_t form = 0;
  std::uint32_t half_scales = 0;
  std::uint64_t offset = 0;
};

/// The matrix of `entry`; null where that is none or lies outside of the data.
std::shared_ptr<const PackedMatrix> matrix_of(const Entry& entry,
                                              const std::shared_ptr<std::byte>& data,
                                              std::uint64_t data_bytes) {
  if (entry.rows <= 0 || entry.columns <= 0 || entry.form >= kPanelForms || entry.half_scales > 1 ||
      entry.offset % kAlignment != 0 || entry.offset > data_bytes) {
    return nullptr;
  }
  PanelView view;
  view.columns = entry.columns;
  view.form = static_cast<PanelForm>(entry.form);
  view.half_scales = entry.half_scales == 1;
  if (view.affine() && view.columns % kPanelColumns != 0) return nullptr;
  const auto panels =
      static_cast<std::uint64_t>((std::int64_t{entry.rows} + kPanelRows - 1) / kPanelRows);
  const auto panel_bytes = static_cast<std::uint64_t>(view.packed_panel_bytes());
  if (panels > (data_bytes - entry.offset) / panel_bytes) return nullptr;
  return std::make_shared<const PackedMatrix>(
      entry.rows, view, std::shared_ptr<std::byte>(data, data.get() + entry.offset));
}

std::optional<PackedMatrices> read_index(std::span<const std::byte> bytes,
                                         std::uint32_t entries,
                                         const std::shared_ptr<std::byte>& data,
                                         std::uint64_t data_bytes) {
  PackedMatrices result;
  IndexReader index(bytes);
  for (std::uint32_t i = 0; i < entries; ++i) {
    const auto name_bytes = index.take<std::uint32_t>();
    const auto entry = index.take<Entry>();
    if (!name_bytes || !entry) return std::nullopt;
    auto name = index.take_text(*name_bytes);
    auto matrix = matrix_of(*entry, data, data_bytes);
    if (!name || !matrix) return std::nullopt;
    result[std::move(*name)].push_back(std::move(matrix));
  }
  if (!index.done()) return std::nullopt;
  return result;
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }

  /// 0, or what the system said; EIO at the end of the file.
  [[nodiscard]] int read(std::byte* to, std::size_t bytes, std::uint64_t from) const {
    while (bytes > 0) {
      const ssize_t got = ::pread(fd_, to, bytes, static_cast<off_t>(from));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return got < 0 ? errno : EIO;
      to += got;
      bytes -= static_cast<std::size_t>(got);
      from += static_cast<std::uint64_t>(got);
    }
    return 0;
  }
  [[nodiscard]] int write(std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return errno;
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
    return 0;
  }
  [[nodiscard]] int close() { return ::close(std::exchange(fd_, -1)) == 0 ? 0 : errno; }

 private:
  int fd_;
};

/// Reads all data and compares it with its checksums. 0, an errno, or -1 where one does not fit.
int read_data(const File& file,
              const Header& header,
              const std::vector<std::uint64_t>& checksums,
              std::byte* to) {
  std::atomic<std::size_t> next{0};
  std::atomic<int> failed{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < header.pieces() && failed == 0; i = next++) {
      const std::uint64_t begin = std::uint64_t{i} * kPieceBytes;
      const auto bytes =
          static_cast<std::size_t>(std::min<std::uint64_t>(kPieceBytes, header.data_bytes - begin));
      const int error = file.read(to + begin, bytes, header.data_begin() + begin);
      if (error != 0) {
        failed = error;
      } else if (checksum({to + begin, bytes}) != checksums[i]) {
        failed = -1;
      }
    }
  };
  {
    const std::size_t cores = std::thread::hardware_concurrency();
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < std::min({cores, kThreadsMax, header.pieces()}); ++i) {
      helpers.emplace_back(work);
    }
    work();
  }
  return failed;
}

/// What stands before the data: header, index, checksums.
struct Front {
  Header header;
  std::vector<std::byte> index;
  std::vector<std::uint64_t> checksums;
};

Result<Front> read_front(const File& file, const std::filesystem::path& path, const Sha256& key) {
  Front front;
  Header& header = front.header;
  if (file.read(reinterpret_cast<std::byte*>(&header), sizeof header, 0) != 0)
    return damaged(path, "it is shorter than its header");
  if (header.magic != kMagic || header.version != kVersion)
    return damaged(path, "it is of another version");
  if (header.own_checksum != header.computed_checksum())
    return damaged(path, "its header is damaged");
  if (header.key != key) return damaged(path, "it was made of something else");
  if (header.index_bytes > kIndexBytesMax || header.data_bytes > kDataBytesMax)
    return damaged(path, "its header makes no sense");
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  const std::uint64_t expected = header.data_begin() + header.data_bytes;
  if (error || size != expected)
    return damaged(path, fmt::format("it has {} bytes of {}", error ? 0 : size, expected));
  front.index.resize(static_cast<std::size_t>(header.index_bytes) +
                     header.pieces() * sizeof(std::uint64_t));
  if (file.read(front.index.data(), front.index.size(), sizeof header) != 0)
    return damaged(path, "its index cannot be read");
  if (checksum(front.index) != header.index_checksum) return damaged(path, "its index is damaged");
  front.checksums.resize(header.pieces());
  std::memcpy(front.checksums.data(),
              front.index.data() + header.index_bytes,
              front.checksums.size() * sizeof(std::uint64_t));
  front.index.resize(static_cast<std::size_t>(header.index_bytes));
  return front;
}

/// All matrices in the order of the file.
template <class Visit>
void for_each(const PackedMatrices& matrices, const Visit& visit) {
  for (const auto& [name, list] : matrices) {
    for (const auto& matrix : list) visit(name, *matrix);
  }
}

/// Gives `take` the data of the file piece by piece; stops where it says false.
template <class Take>
bool stream(const PackedMatrices& matrices, const Take& take) {
  std::vector<std::byte> piece;
  piece.reserve(kPieceBytes);
  bool going = true;
  const auto add = [&](std::span<const std::byte> bytes) {
    while (going && !bytes.empty()) {
      const auto count = std::min(bytes.size(), kPieceBytes - piece.size());
      piece.insert(piece.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
      bytes = bytes.subspan(count);
      if (piece.size() < kPieceBytes) continue;
      going = take(std::span<const std::byte>(piece));
      piece.clear();
    }
  };
  for_each(matrices, [&](const std::string&, const PackedMatrix& matrix) {
    const auto bytes = static_cast<std::size_t>(matrix.bytes());
    constexpr std::array<std::byte, kAlignment> kPadding{};
    add({reinterpret_cast<const std::byte*>(matrix.view().data), bytes});
    add(std::span(kPadding).first(static_cast<std::size_t>(aligned(bytes) - bytes)));
  });
  if (going && !piece.empty()) going = take(std::span<const std::byte>(piece));
  return going;
}

Front make_front(const PackedMatrices& matrices, const Sha256& key) {
  Front front;
  Header& header = front.header;
  header.key = key;
  std::string index;
  for_each(matrices, [&](const std::string& name, const PackedMatrix& matrix) {
    append(index, static_cast<std::uint32_t>(name.size()));
    append(index,
           Entry{matrix.rows(),
                 matrix.columns(),
                 static_cast<std::uint32_t>(matrix.view().form),
                 matrix.view().half_scales ? 1u : 0u,
                 header.data_bytes});
    index += name;
    header.data_bytes += aligned(matrix.bytes());
    ++header.entries;
  });
  header.index_bytes = index.size();
  stream(matrices, [&](std::span<const std::byte> piece) {
    front.checksums.push_back(checksum(piece));
    return true;
  });
  for (const std::uint64_t sum : front.checksums) append(index, sum);
  header.index_checksum = checksum(std::as_bytes(std::span(index)));
  header.own_checksum = header.computed_checksum();
  const auto bytes = std::as_bytes(std::span(index));
  front.index.assign(bytes.begin(), bytes.end());
  return front;
}

}  // namespace

std::uint64_t checksum(std::span<const std::byte> bytes) {
  constexpr std::size_t kLanes = 8;
  std::array<std::uint64_t, kLanes> sums{};
  std::array<std::uint64_t, kLanes> sums_of_sums{};
  std::array<std::uint64_t, kLanes> words{};
  const auto add = [&](const std::byte* line) {
    std::memcpy(words.data(), line, sizeof words);
    for (std::size_t i = 0; i < kLanes; ++i) sums[i] += words[i];
    for (std::size_t i = 0; i < kLanes; ++i) sums_of_sums[i] += sums[i];
  };
  const std::uint64_t size = bytes.size();
  for (; bytes.size() >= sizeof words; bytes = bytes.subspan(sizeof words)) add(bytes.data());
  if (!bytes.empty()) {
    std::array<std::byte, sizeof words> last{};
    std::copy(bytes.begin(), bytes.end(), last.begin());
    add(last.data());
  }
  // Joined so that each lane counts, and its place.
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;
  std::uint64_t result = size;
  for (std::size_t i = 0; i < kLanes; ++i) {
    result = (result ^ sums[i]) * kOdd;
    result = ((result ^ result >> 29) ^ sums_of_sums[i]) * kOdd;
  }
  return result ^ result >> 32;
}

std::uint64_t packed_bytes(const PackedMatrices& matrices) {
  std::uint64_t bytes = 0;
  for_each(matrices, [&](const std::string&, const PackedMatrix& matrix) {
    bytes += aligned(matrix.bytes());
  });
  return bytes + sizeof(Header);
}

Result<PackedMatrices> read_packed_file(const std::filesystem::path& path, const Sha256& key) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    const auto code = errno == ENOENT ? ErrorCode::kNotFound : ErrorCode::kIo;
    return fail(code, fmt::format("[packed] cannot open {}: {}", path.string(), strerror(errno)));
  }
  const File file(fd);
  auto front = read_front(file, path, key);
  if (!front) return front.error();
  const auto data = allocate_weights(static_cast<std::size_t>(front->header.data_bytes));
  const int error = read_data(file, front->header, front->checksums, data.get());
  if (error > 0) {
    return fail(ErrorCode::kIo,
                fmt::format("[packed] cannot read {}: {}", path.string(), strerror(error)));
  }
  if (error < 0) return damaged(path, "its data is damaged");
  auto matrices = read_index(front->index, front->header.entries, data, front->header.data_bytes);
  if (!matrices) return damaged(path, "its index makes no sense");
  return std::move(*matrices);
}

Result<void> write_packed_file(const std::filesystem::path& path,
                               const Sha256& key,
                               const PackedMatrices& matrices,
                               const std::stop_token& stop) {
  const Front front = make_front(matrices, key);
  std::filesystem::path unfinished = path;
  unfinished += fmt::format(".{}{}", ::getpid(), kUnfinished);
  const auto refuse = [&](int error) {
    ::unlink(unfinished.c_str());
    return fail(ErrorCode::kIo,
                fmt::format("[packed] cannot write {}: {}", path.string(), strerror(error)));
  };
  const int fd = ::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return refuse(errno);
  File file(fd);
  int error = file.write(std::as_bytes(std::span(&front.header, 1)));
  if (error == 0) error = file.write(front.index);
  const bool all = stream(matrices, [&](std::span<const std::byte> piece) {
    if (error == 0 && !stop.stop_requested()) error = file.write(piece);
    return error == 0 && !stop.stop_requested();
  });
  if (const int closed = file.close(); error == 0) error = closed;
  if (error != 0) return refuse(error);
  if (!all) {
    ::unlink(unfinished.c_str());
    return fail(ErrorCode::kShuttingDown, "[packed] stopped");
  }
  if (::rename(unfinished.c_str(), path.c_str()) != 0) return refuse(errno);
  return {};
}

}  // namespace mlxs::engine
