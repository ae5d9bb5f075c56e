#pragma once

#include "api/render.h"
#include "gateway/flight/log.h"

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace mlxs::gateway {

/// Server-sent frames of one log in one shape, rendered once and shared by the streams of a loop.
/// Keeps the latest pieces only: who lags further behind renders for itself. Loop thread only.
class Frames {
 public:
  static constexpr std::size_t kPieceBytes = 8 * 1024;  ///< A piece ends once it is this long.
  static constexpr std::size_t kKeptBytes = 64 * 1024;  ///< Pieces beyond are forgotten.

  /// A run of events as bytes. Held by those who are sending it.
  struct Piece {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::shared_ptr<const std::string> bytes;
  };

  Frames(const Log& log, bool with_usage, bool with_token_ids);

  /// The piece that begins at event `at`, which must be published; nothing when there is none (any
  /// more).
  [[nodiscard]] std::optional<Piece> piece(std::size_t at);

  /// Fields that the heads of these streams have in common, rendered; whoever needs them first
  /// fills them in.
  std::string head_fields;
  std::size_t streams = 0;  ///< That read these frames; with one only, sharing is not worth it.

 private:
  void render_to(std::size_t at);

  const Log& log_;
  api::StreamRenderer renderer_;
  LogCursor cursor_;
  api::Delta delta_;
  std::string scratch_;
  std::deque<Piece> pieces_;
  std::size_t bytes_ = 0;
};

/// One stream's way through a log: gives the bytes to send next, shared with others where there are
/// others. Loop thread only; the log
/// outlives its calls.
class FrameReader {
 public:
  /// `shared` is null for a log that has ended.
  FrameReader(const Log& log, std::shared_ptr<Frames> shared, bool with_usage, bool with_token_ids);
  ~FrameReader();
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  /// Frames of published events that were not given yet, a bounded part of them; empty if there are
  /// none. Valid until the next call.
  [[nodiscard]] std::string_view next();
  /// How many events were given.
  [[nodiscard]] std::size_t at() const { return at_; }
  /// Of Frames, or its own where nothing is shared.
  [[nodiscard]] std::string& head_fields() {
    return shared_ != nullptr ? shared_->head_fields : head_fields_;
  }
  /// What ends a complete answer: the usage frame where wanted, and [DONE].
  void append_end(std::string& out, const api::Usage& usage);

 private:
  void render_own();

  const Log& log_;
  std::shared_ptr<Frames> shared_;
  std::size_t at_ = 0;
  std::shared_ptr<const std::string> held_;
  // Of its own rendering; may lag behind `at_` while others' frames are used.
  api::StreamRenderer renderer_;
  LogCursor cursor_;
  api::Delta delta_;
  std::string out_;
  std::string head_fields_;
};

}  // namespace mlxs::gateway
