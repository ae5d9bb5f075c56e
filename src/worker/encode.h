#pragma once

#include "base/result.h"
#include "worker/codec.h"
#include "worker/context.h"

#include <boost/asio/awaitable.hpp>

#include <functional>
#include <string>

namespace mlxs::worker {

using EncodeWork = std::function<Result<Codec::TokenIds>()>;

/// What `work` gives, done on the text thread. It owns what it reads, since the asking handler may
/// be gone before it is done.
boost::asio::awaitable<Result<Codec::TokenIds>> on_text_pool(Context& context, EncodeWork work);

/// Token ids of a text; long ones are made on the text thread.
boost::asio::awaitable<Result<Codec::TokenIds>> encode_text(Context& context,
                                                            std::string text,
                                                            bool add_special);

/// Token ids of a chat: rendered through the template, which writes special tokens itself.
boost::asio::awaitable<Result<Codec::TokenIds>> encode_chat(Context& context,
                                                            std::string messages_json,
                                                            std::string tools_json,
                                                            std::string arguments_json);

}  // namespace mlxs::worker
