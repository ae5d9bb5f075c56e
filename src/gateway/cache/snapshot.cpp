#include "gateway/cache/snapshot.h"

#include "gateway/cache/durable_file.h"
#include "gateway/cache/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace {

using std::chrono::nanoseconds;

constexpr std::string_view kMagic = "MLXSKEPT";
constexpr std::uint64_t kVersion = 1;
constexpr std::uint64_t kHeaderBytesMax = 4096;
constexpr std::uint64_t kRecordBytesMax = std::uint64_t{1} << 31;
// Clocks are set back by a little now and then; by more, ages cannot be told.
constexpr std::chrono::seconds kClockSlack{5};

struct Header {
  std::string lineage;
  std::chrono::system_clock::time_point written_at;
  std::uint64_t records = 0;
};

std::uint64_t count(Clock::duration duration) {
  return static_cast<std::uint64_t>(
      std::max<std::int64_t>(0, std::chrono::duration_cast<nanoseconds>(duration).count()));
}

Clock::duration duration(std::uint64_t count) {
  return nanoseconds{static_cast<std::int64_t>(std::min<std::uint64_t>(count, INT64_MAX / 4))};
}

std::string_view view(const Sha256& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::string header_bytes(const Header& header) {
  std::string out;
  BinaryWriter writer{out};
  writer.text(Fingerprint::kVersion);
  writer.text(header.lineage);
  writer.number(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(header.written_at.time_since_epoch())
          .count()));
  writer.number(header.records);
  return out;
}

std::string record_bytes(const KeptAnswer& kept, const AnswerCodec& codec, TimePoint now) {
  std::string out;
  BinaryWriter writer{out};
  writer.text(kept.fingerprint->canonical);
  writer.text(kept.fingerprint->tenant);
  writer.text(kept.fingerprint->model);
  writer.number(static_cast<std::uint64_t>(kept.admitted));
  writer.number(count(now - kept.completed));
  writer.number(count(kept.prompt_cache_ttl));
  writer.number(count(kept.grace));
  std::string answer;
  codec.encode(*kept.answer, answer);
  writer.text(answer);
  return out;
}

Error refused(std::string_view why) {
  return fail(ErrorCode::kCorruptFile, fmt::format("[snapshot] refused: {}", why));
}

// A file read front to back.
class Input {
 public:
  explicit Input(const std::filesystem::path& path) : in_(path, std::ios::binary) {}

  [[nodiscard]] bool open() const { return in_.is_open(); }
  /// False at the end of the file.
  [[nodiscard]] bool read(std::string& bytes, std::size_t size) {
    // Grown as the bytes come, so that a made-up length does not claim memory.
    constexpr std::size_t kChunk = std::size_t{1} << 20;
    bytes.clear();
    while (bytes.size() < size) {
      const std::size_t at = bytes.size();
      bytes.resize(at + std::min(kChunk, size - at));
      in_.read(bytes.data() + at, static_cast<std::streamsize>(bytes.size() - at));
      if (static_cast<std::size_t>(in_.gcount()) != bytes.size() - at) return false;
    }
    return true;
  }
  [[nodiscard]] std::optional<std::uint64_t> number() {
    std::string bytes;
    if (!read(bytes, 8)) return std::nullopt;
    return BinaryReader{bytes}.number();
  }
  [[nodiscard]] bool at_end() { return in_.peek() == std::ifstream::traits_type::eof(); }

 private:
  std::ifstream in_;
};

Result<Header> read_header(Input& in, std::string& bytes) {
  std::string magic;
  if (!in.read(magic, kMagic.size()) || magic != kMagic) return refused("it is no snapshot");
  const auto version = in.number();
  if (version != kVersion)
    return refused(
        fmt::format("its version is {}, this program reads {}", version.value_or(0), kVersion));
  const auto size = in.number();
  if (!size || *size > kHeaderBytesMax || !in.read(bytes, static_cast<std::size_t>(*size)))
    return refused("its header is damaged");
  BinaryReader reader{bytes};
  const std::string_view fingerprints = reader.text();
  Header header;
  header.lineage = reader.text();
  header.written_at = std::chrono::system_clock::time_point{
      std::chrono::milliseconds{static_cast<std::int64_t>(reader.number())}};
  header.records = reader.number();
  if (!reader.ok() || reader.left() > 0) return refused("its header is damaged");
  if (fingerprints != Fingerprint::kVersion)
    return refused("another version of the program made its fingerprints");
  return header;
}

// The next record's content, nothing where it is damaged.
std::optional<Sha256> read_record(Input& in, std::string& bytes) {
  const auto size = in.number();
  std::string expected;
  if (!size || *size > kRecordBytesMax || !in.read(expected, sizeof(Sha256)) ||
      !in.read(bytes, static_cast<std::size_t>(*size)))
    return std::nullopt;
  const Sha256 digest = sha256(bytes);
  if (view(digest) != expected) return std::nullopt;
  return digest;
}

// The first pass: everything is there and as it was written.
Result<Header> check(const std::filesystem::path& path) {
  Input in{path};
  if (!in.open())
    return fail(ErrorCode::kNotFound, fmt::format("[snapshot] there is no {}", path.string()));
  std::string digests;
  auto header = read_header(in, digests);
  if (!header) return header.error();
  std::string bytes;
  for (std::uint64_t i = 0; i < header->records; ++i) {
    const auto digest = read_record(in, bytes);
    if (!digest) return refused(fmt::format("record {} of {} is damaged", i + 1, header->records));
    digests += view(*digest);
  }
  std::string expected;
  if (!in.read(expected, sizeof(Sha256)) || expected != view(sha256(digests)) || !in.at_end())
    return refused("its checksum is wrong");
  return header;
}

std::optional<KeptAnswer> decode(std::string_view bytes,
                                 const AnswerCodec& codec,
                                 TimePoint written_at) {
  BinaryReader reader{bytes};
  auto fingerprint = std::make_shared<Fingerprint>();
  fingerprint->canonical = reader.text();
  fingerprint->tenant = reader.text();
  fingerprint->model = reader.text();
  fingerprint->digest = sha256(fingerprint->canonical);
  KeptAnswer kept;
  kept.fingerprint = std::move(fingerprint);
  kept.admitted = Stamp{reader.number()};
  kept.completed = written_at - duration(reader.number());
  kept.prompt_cache_ttl = duration(reader.number());
  kept.grace = duration(reader.number());
  kept.answer = codec.decode(reader.text());
  if (!reader.ok() || reader.left() > 0 || !kept.answer) return std::nullopt;
  return kept;
}

}  // namespace

Result<SnapshotCount> write_snapshot(const std::filesystem::path& path,
                                     const AnswerStore& store,
                                     const Epochs& epochs,
                                     const AnswerCodec& codec,
                                     Moment now) {
  // The lineage first: should it change in between, the file is refused rather than trusted.
  Header header{.lineage = epochs.state().lineage, .written_at = now.wall};
  const std::vector<KeptAnswer> entries = store.prompt_cache(now.steady);
  header.records = entries.size();
  std::string digests = header_bytes(header);
  auto file = DurableFile::create(path);
  if (!file) return file.error();
  std::string head{kMagic};
  BinaryWriter writer{head};
  writer.number(kVersion);
  writer.text(digests);
  MLXS_TRY(file->write(head));
  for (const KeptAnswer& kept : entries) {
    const std::string bytes = record_bytes(kept, codec, now.steady);
    const Sha256 digest = sha256(bytes);
    std::string record_head;
    BinaryWriter{record_head}.number(bytes.size());
    record_head += view(digest);
    digests += view(digest);
    MLXS_TRY(file->write(record_head));
    MLXS_TRY(file->write(bytes));
  }
  MLXS_TRY(file->write(view(sha256(digests))));
  MLXS_TRY(file->commit());
  return SnapshotCount{.entries = entries.size()};
}

Result<SnapshotCount> load_snapshot(const std::filesystem::path& path,
                                    AnswerStore& store,
                                    const Epochs& epochs,
                                    const AnswerCodec& codec,
                                    Clock::duration ttl_max,
                                    Moment now) {
  const auto header = check(path);
  if (!header) return header.error();
  if (header->lineage != epochs.state().lineage)
    return refused("the record of flushes that belongs to it is lost");
  if (header->written_at > now.wall + kClockSlack)
    return refused("it was written in the future, so ages cannot be told");
  const TimePoint written_at =
      now.steady - std::chrono::duration_cast<Clock::duration>(std::max(
                       std::chrono::system_clock::duration{0}, now.wall - header->written_at));
  // Nobody writes into the file under its name, so the second pass reads what the first one did.
  Input in{path};
  std::string bytes;
  SnapshotCount count;
  if (!read_header(in, bytes)) return refused("it changed while it was read");
  for (std::uint64_t i = 0; i < header->records; ++i) {
    if (!read_record(in, bytes)) return refused("it changed while it was read");
    auto kept = decode(bytes, codec, written_at);
    if (!kept) {
      ++count.left_out;
      continue;
    }
    kept->prompt_cache_ttl = std::min(kept->prompt_cache_ttl, ttl_max);
    const bool taken = store.insert(std::move(*kept), now.steady);
    ++(taken ? count.entries : count.left_out);
  }
  return count;
}

}  // namespace mlxs::gateway
