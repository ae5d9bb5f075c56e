#include "worker/encode.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace mlxs::worker {
namespace {

namespace asio = boost::asio;

using Encoded = Result<Codec::TokenIds>;

// Up to here the work takes less time than two thread switches would add for everybody else.
constexpr std::size_t kInlineBytesMax = 4096;

asio::awaitable<Encoded> perform(EncodeWork work) { co_return work(); }

asio::awaitable<Encoded> perform_somewhere(Context& context, std::size_t bytes, EncodeWork work) {
  if (bytes <= kInlineBytesMax) co_return work();
  co_return co_await on_text_pool(context, std::move(work));
}

}  // namespace

asio::awaitable<Encoded> on_text_pool(Context& context, EncodeWork work) {
  co_return co_await asio::co_spawn(
      context.text_pool, perform(std::move(work)), asio::use_awaitable);
}

asio::awaitable<Encoded> encode_text(Context& context, std::string text, bool add_special) {
  const std::size_t bytes = text.size();
  EncodeWork work = [&codec = context.model.codec(), text = std::move(text), add_special] {
    return codec.encode(text, add_special);
  };
  co_return co_await perform_somewhere(context, bytes, std::move(work));
}

asio::awaitable<Encoded> encode_chat(Context& context,
                                     std::string messages_json,
                                     std::string tools_json,
                                     std::string arguments_json) {
  const std::size_t bytes = messages_json.size() + tools_json.size() + arguments_json.size();
  EncodeWork work = [&codec = context.model.codec(),
                     messages = std::move(messages_json),
                     tools = std::move(tools_json),
                     arguments = std::move(arguments_json)]() -> Encoded {
    auto prompt = codec.render_chat(messages, tools, arguments);
    if (!prompt) return std::move(prompt).error();
    return codec.encode(*prompt, false);
  };
  co_return co_await perform_somewhere(context, bytes, std::move(work));
}

}  // namespace mlxs::worker
