#include "config/config.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <vector>

namespace mlxs::config {
namespace {

std::string name(const std::string& salt) { return "n" + salt + "\\\"'#{}é:-"; }

Config arbitrary_config() {
  const auto time = [] { return Milliseconds{*rc::gen::inRange(1, 86'400'000)}; };
  const auto size = [] { return *rc::gen::inRange<std::uint64_t>(1024, 1024UL * 1024); };
  Config config;
  config.listen = fmt::format("127.0.0.1:{}", *rc::gen::inRange(1, 30'000));
  config.admin.listen = fmt::format("[::1]:{}", *rc::gen::inRange(30'001, 65'536));
  config.threads = *rc::gen::inRange(0, 257);
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i)
    config.keys.push_back({name(std::to_string(i)), sha256(std::to_string(i))});
  config.allow_unauthenticated = *rc::gen::arbitrary<bool>();
  if (*rc::gen::arbitrary<bool>()) config.allowed_hosts = {"example.com:1", "10.0.0.1"};
  if (*rc::gen::arbitrary<bool>()) config.allowed_origins = {"https://example.com"};
  config.log.level = *rc::gen::element<std::string>("trace", "warn", "error");
  config.log.access = *rc::gen::element<std::string>("off", "stderr", "/var/log/a b.json", "true");
  config.limits.head_bytes = size();
  config.limits.body_bytes = size();
  config.limits.in_flight = *rc::gen::inRange(1, 1'000'001);
  config.limits.idle = time();
  const auto policy = [] {
    return *rc::gen::element(SharePolicy::kAll, SharePolicy::kDeterministic, SharePolicy::kOff);
  };
  for (Key& key : config.keys) key.sharing = policy();
  config.prompt_cache.bytes = 64 * size();
  config.packed_weights.bytes = (1 << 20) + size();
  config.packed_weights.enabled = *rc::gen::arbitrary<bool>();
  config.prompt_cache.grace = Seconds{*rc::gen::inRange(0, 1000)};
  config.prompt_cache.snapshot = *rc::gen::arbitrary<bool>();
  if (*rc::gen::arbitrary<bool>()) config.state_dir = "/var/lib/" + name("");
  config.timeouts.drain = time();
  config.timeouts.token = time();
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
    Model model;
    model.id = name(std::to_string(i));
    if (*rc::gen::arbitrary<bool>()) {
      model.source = "a b/" + name("");
      model.workers = *rc::gen::inRange(1, 65);
      model.compute = *rc::gen::element<std::string>("auto", "float32", "int8");
      if (*rc::gen::arbitrary<bool>()) model.context_tokens_max = *rc::gen::inRange(16, 1 << 24);
      if (*rc::gen::arbitrary<bool>()) model.kv_bytes = size() * 1024;
      model.sequences_max = *rc::gen::inRange(1, 513);
      model.waiting_max = *rc::gen::inRange(0, 1000);
    } else {
      model.url_workers.push_back({"http://host:1/v1", name("")});
      model.url_workers.push_back({"unix:/w.sock", ""});
    }
    model.sharing.coalescing.policy = policy();
    model.sharing.dedup = {policy(), time()};
    model.sharing.prompt_cache.policy = policy();
    config.models.push_back(std::move(model));
  }
  return config;
}

RC_GTEST_PROP(ConfigProperty, RenderedIsReadBackEqual, ()) {
  const Config config = arbitrary_config();

  const auto again = parse(render(config), "rendered");

  if (!again) RC_FAIL(again.error().message + "\n" + render(config));
  RC_ASSERT(*again == config);
}

// Mutations of a real file: whatever comes out, the reader answers with a value and a place.
RC_GTEST_PROP(ConfigProperty, MutatedFilesNeverCrashAndErrorsNameAPlace, ()) {
  std::string text = render(arbitrary_config());
  const int edits = *rc::gen::inRange(1, 12);
  for (int i = 0; i < edits && !text.empty(); ++i) {
    const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
    switch (*rc::gen::inRange(0, 4)) {
      case 0:
        text.erase(at, *rc::gen::inRange<std::size_t>(1, 20));
        break;
      case 1:
        text.insert(at,
                    *rc::gen::element<std::string>("{",
                                                   "}",
                                                   "[",
                                                   "]",
                                                   "&a ",
                                                   "*a",
                                                   "!!int ",
                                                   "? ",
                                                   ": ",
                                                   "- ",
                                                   "\n",
                                                   "\t",
                                                   "\"",
                                                   "'",
                                                   "#",
                                                   "%",
                                                   "|\n",
                                                   ">\n",
                                                   "---\n",
                                                   "<<: ",
                                                   std::string(1, '\0')));
        break;
      case 2:
        text[at] = *rc::gen::arbitrary<char>();
        break;
      default:
        text.insert(at, text.substr(at, *rc::gen::inRange<std::size_t>(1, 60)));
    }
  }

  const auto result = parse(text, "mutated");

  RC_ASSERT(result.has_value() || result.error().message.starts_with("mutated:"));
}

RC_GTEST_PROP(ConfigProperty, ArbitraryOverridesNeverCrash, (const std::string& override)) {
  const std::vector<std::string> overrides{override};

  const auto result = parse("", "empty", overrides);

  RC_ASSERT(result.has_value() || !result.error().message.empty());
}

}  // namespace
}  // namespace mlxs::config
