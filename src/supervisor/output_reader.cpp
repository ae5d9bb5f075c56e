#include "supervisor/output_reader.h"

#include <boost/asio/buffer.hpp>

#include <cstddef>
#include <cstdio>
#include <string_view>
#include <utility>

namespace mlxs::supervisor {
namespace {

constexpr std::size_t kLineBytesMax = 8UL * 1024;
// A child that filled the pipe leaves at most 64 KiB; a grandchild could go on writing for ever.
constexpr std::size_t kLastWordsBytesMax = 1024UL * 1024;

}  // namespace

OutputReader::OutputReader(boost::asio::io_context& loop, Fd pipe)
    : pipe_(loop, pipe.release()), lines_(kLineBytesMax) {
  pipe_.non_blocking(true);
}

void OutputReader::start() {
  pipe_.async_read_some(boost::asio::buffer(input_),
                        [self = shared_from_this()](auto error, std::size_t length) {
                          if (error) return;
                          self->accept({self->input_.data(), length});
                          if (self->pipe_.is_open()) self->start();
                        });
}

std::string OutputReader::finish() {
  boost::system::error_code error;
  std::size_t total = 0;
  while (!error && total < kLastWordsBytesMax) {
    const std::size_t length = pipe_.read_some(boost::asio::buffer(input_), error);
    if (!error) accept({input_.data(), length});
    total += length;
  }
  if (const std::string rest = lines_.take_rest(); !rest.empty()) forward(rest);
  pipe_.close(error);
  return std::exchange(last_, {});
}

void OutputReader::accept(std::string_view bytes) {
  lines_.feed(bytes, [this](std::string_view line) { forward(line); });
}

void OutputReader::forward(std::string_view line) {
  if (line.empty()) return;
  last_ = line;
  std::string text{line};
  text.push_back('\n');
  // One write, so that lines of several children never mix.
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace mlxs::supervisor
