#pragma once

#include "supervisor/fd.h"
#include "supervisor/line_buffer.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include <array>
#include <memory>
#include <string>

namespace mlxs::supervisor {

/// Forwards what a child prints to our stderr, line by line, and remembers the last line: often it
/// says why the child ended. Loop thread only.
class OutputReader : public std::enable_shared_from_this<OutputReader> {
 public:
  OutputReader(boost::asio::io_context& loop, Fd pipe);
  /// Reads until the pipe ends or `finish`.
  void start();
  /// Reads what is there already (the child is gone, its last words may still be on the way) and
  /// stops. Returns the last line that was not empty.
  std::string finish();

 private:
  void accept(std::string_view bytes);
  void forward(std::string_view line);

  boost::asio::posix::stream_descriptor pipe_;
  LineBuffer lines_;
  std::array<char, 4096> input_{};
  std::string last_;
};

}  // namespace mlxs::supervisor
