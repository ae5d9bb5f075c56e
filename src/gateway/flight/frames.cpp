#include "gateway/flight/frames.h"

#include <algorithm>
#include <utility>

namespace mlxs::gateway {
namespace {

// Alone, a stream that lags catches up in pieces of this size. With many, each of which may stand
// still while it holds one, in pieces of Frames::kPieceBytes.
constexpr std::size_t kOwnBytes = 64 * 1024;

}  // namespace

Frames::Frames(const Log& log, bool with_usage, bool with_token_ids)
    : log_(log), renderer_(log.head(), with_usage, with_token_ids) {}

std::optional<Frames::Piece> Frames::piece(std::size_t at) {
  if (at < cursor_.index) {
    const auto found = std::ranges::lower_bound(pieces_, at, {}, &Piece::begin);
    if (found == pieces_.end() || found->begin != at) return std::nullopt;
    return *found;
  }
  render_to(at);
  auto bytes = std::make_shared<std::string>();
  const std::size_t size = log_.size();
  while (cursor_.index < size && bytes->size() < kPieceBytes) {
    log_.read(cursor_, delta_);
    renderer_.append(*bytes, delta_);
  }
  bytes_ += bytes->size();
  pieces_.push_back({.begin = at, .end = cursor_.index, .bytes = std::move(bytes)});
  while (bytes_ > kKeptBytes && pieces_.size() > 1) {
    bytes_ -= pieces_.front().bytes->size();
    pieces_.pop_front();
  }
  return pieces_.back();
}

// The renderer remembers which roles were sent, so events are passed by rendering them.
void Frames::render_to(std::size_t at) {
  if (cursor_.index == at) return;
  pieces_.clear();
  bytes_ = 0;
  while (cursor_.index < at) {
    log_.read(cursor_, delta_);
    scratch_.clear();
    renderer_.append(scratch_, delta_);
  }
}

FrameReader::FrameReader(const Log& log,
                         std::shared_ptr<Frames> shared,
                         bool with_usage,
                         bool with_token_ids)
    : log_(log), shared_(std::move(shared)), renderer_(log.head(), with_usage, with_token_ids) {
  if (shared_ != nullptr) ++shared_->streams;
}

FrameReader::~FrameReader() {
  if (shared_ != nullptr) --shared_->streams;
}

std::string_view FrameReader::next() {
  held_ = nullptr;
  out_.clear();
  // An event without anything to show gives no bytes; the next may.
  while (at_ < log_.size()) {
    if (shared_ != nullptr && shared_->streams > 1) {
      if (auto piece = shared_->piece(at_)) {
        at_ = piece->end;
        if (piece->bytes->empty()) continue;
        held_ = std::move(piece->bytes);
        out_ = {};
        return *held_;
      }
    }
    render_own();
    if (!out_.empty()) break;
  }
  return out_;
}

void FrameReader::render_own() {
  const bool alone = shared_ == nullptr || shared_->streams == 1;
  const std::size_t most = alone ? kOwnBytes : Frames::kPieceBytes;
  const std::size_t size = log_.size();
  while (cursor_.index < size && out_.size() < most) {
    const bool passed = cursor_.index < at_;
    log_.read(cursor_, delta_);
    renderer_.append(out_, delta_);
    if (passed) out_.clear();
  }
  at_ = cursor_.index;
}

void FrameReader::append_end(std::string& out, const api::Usage& usage) {
  renderer_.append_usage(out, usage);
  renderer_.append_done(out);
}

}  // namespace mlxs::gateway
