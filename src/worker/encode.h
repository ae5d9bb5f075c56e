#pragma once

#include "base/result.h"
#include "worker/codec.h"
#include "worker/context.h"

#include <boost/asio/awaitable.hpp>

#include <string>

namespace mlxs::worker {

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
