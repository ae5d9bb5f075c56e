#include "gateway/flight/log_codec.h"

#include "gateway/cache/wire.h"
#include "gateway/flight/log.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <cstring>
#include <limits>
#include <utility>
#include <vector>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;

void append(BinaryWriter& writer, const api::Delta& delta) {
  writer.number(static_cast<std::uint64_t>(delta.choice));
  writer.text(delta.text);
  writer.text({reinterpret_cast<const char*>(delta.token_ids.data()),
               delta.token_ids.size() * sizeof(std::int32_t)});
  writer.text(delta.reasoning);
  writer.text(delta.tool_calls.empty() ? std::string{} : json::serialize(delta.tool_calls));
  writer.text(delta.logprobs.is_null() ? std::string{} : json::serialize(delta.logprobs));
  writer.text(delta.finish_reason);
}

// False for JSON that is none.
bool read_json(std::string_view text, json::value& into) {
  if (text.empty()) return true;
  boost::system::error_code bad;
  into = json::parse(text, bad);
  return !bad;
}

bool read(BinaryReader& reader, api::Delta& delta) {
  const std::uint64_t choice = reader.number();
  if (choice > std::numeric_limits<int>::max()) return false;
  delta.choice = static_cast<int>(choice);
  delta.text = reader.text();
  const std::string_view ids = reader.text();
  if (ids.size() % sizeof(std::int32_t) != 0) return false;
  delta.token_ids.resize(ids.size() / sizeof(std::int32_t));
  if (!ids.empty()) std::memcpy(delta.token_ids.data(), ids.data(), ids.size());
  delta.reasoning = reader.text();
  json::value tool_calls;
  if (!read_json(reader.text(), tool_calls) || !read_json(reader.text(), delta.logprobs))
    return false;
  if (tool_calls.is_array()) delta.tool_calls = std::move(tool_calls.get_array());
  delta.finish_reason = reader.text();
  return reader.ok();
}

}  // namespace

void append_bytes(const StoredAnswer& answer, std::string& out) {
  const auto& log = static_cast<const Log&>(answer);
  BinaryWriter writer{out};
  writer.number(log.head().surface == api::Surface::kChat ? 0 : 1);
  writer.text(log.head().id);
  writer.number(static_cast<std::uint64_t>(log.head().created));
  writer.text(log.head().model);
  const api::Usage& usage = log.usage();
  for (const std::int64_t tokens :
       {usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens, usage.reasoning_tokens})
    writer.number(static_cast<std::uint64_t>(tokens));
  const std::size_t events = log.size();
  writer.number(events);
  LogCursor cursor;
  api::Delta delta;
  for (std::size_t i = 0; i < events; ++i) {
    log.read(cursor, delta);
    append(writer, delta);
  }
}

StoredAnswerPtr log_from_bytes(std::string_view bytes) {
  BinaryReader reader{bytes};
  const std::uint64_t surface = reader.number();
  if (surface > 1) return nullptr;
  api::AnswerHead head;
  head.surface = surface == 0 ? api::Surface::kChat : api::Surface::kCompletions;
  head.id = reader.text();
  head.created = static_cast<std::int64_t>(reader.number());
  head.model = reader.text();
  api::Usage usage;
  for (std::int64_t* tokens : {&usage.prompt_tokens,
                               &usage.completion_tokens,
                               &usage.cached_tokens,
                               &usage.reasoning_tokens})
    *tokens = static_cast<std::int64_t>(reader.number());
  Log log{std::move(head), Log::kBytesMax};
  for (std::uint64_t left = reader.number(); left > 0; --left) {
    api::Delta delta;
    if (!read(reader, delta) || !log.append(std::move(delta))) return nullptr;
  }
  if (!reader.ok() || reader.left() > 0) return nullptr;
  log.set_usage(usage);
  log.publish();
  log.finish();
  return log.sealed();
}

}  // namespace mlxs::gateway
