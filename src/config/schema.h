#pragma once

#include "config/checks.h"
#include "config/config.h"

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

// The one list of keys. Reading, rendering, reloading and the documentation's test are visitors of
// it, so that a key is added here and nowhere else (and in docs/flags.md, where a test asks for
// it).
//
// A visitor of an object of type C has:
//   value(key, &C::member, rule, apply)     one value; the rule is a Text, Range or Flag
//   texts(key, &C::member, text, apply)     a list of text
//   group(key, &C::member)                  a map that is an object of its own
//   within(key, f)                          a map whose keys are members of the same object
//   list(key, &C::member)                   a list of maps
//   secret(&C::member), workers(), native_only(f)   the three odd ones, see below

namespace mlxs::config {

enum class Apply { kReload, kRestart };

struct Text {
  bool (*ok)(std::string_view);
  std::string_view expected;
  bool required = false;
  bool off_word = false;  ///< `false` is another spelling of the text "off".
};

struct Range {
  std::int64_t min;
  std::int64_t max;
};

struct Flag {};
struct Policy {};

/// The words of a policy; `false` is another spelling of the last.
inline constexpr std::pair<std::string_view, SharePolicy> kPolicies[] = {
    {"all", SharePolicy::kAll},
    {"deterministic", SharePolicy::kDeterministic},
    {"off", SharePolicy::kOff}};
inline constexpr std::string_view kPolicyWords = "all, deterministic or off";

inline constexpr Text kListen{is_listen_address, "HOST:PORT, [IPV6]:PORT or unix:/path"};
inline constexpr Text kLevel{is_log_level, "trace, debug, info, warn or error"};
inline constexpr Text kAccess{
    .ok = is_path, .expected = "stderr, off or a file's path", .off_word = true};
inline constexpr Text kHost{is_host, "a host name or address, with a port or without"};
inline constexpr Text kOrigin{is_origin, "an origin such as https://example.com"};
inline constexpr Text kName{
    .ok = is_name, .expected = "1 to 256 characters without spaces", .required = true};
inline constexpr Text kCompute{is_compute, "auto, float32 or int8"};
inline constexpr Text kSource{is_path, "the path of a model file or folder, or ORG/NAME on a hub"};
inline constexpr Text kUrl{
    .ok = is_worker_url, .expected = "http://HOST:PORT/PATH or unix:/path", .required = true};
inline constexpr Text kForeignName{is_name, "1 to 256 characters without spaces"};

inline constexpr Text kFolder{is_path, "the path of a folder"};

inline constexpr std::int64_t kDayMs = 24LL * 60 * 60 * 1000;
inline constexpr std::int64_t kYearS = 366LL * 24 * 60 * 60;
inline constexpr std::int64_t kKiB = 1024;
inline constexpr std::int64_t kMiB = 1024 * kKiB;
inline constexpr std::int64_t kGiB = 1024 * kMiB;
inline constexpr Range kWorkers{1, 64};

template <class V>
void describe(V& v, std::type_identity<Config::Admin>) {
  v.value("listen", &Config::Admin::listen, kListen, Apply::kRestart);
}

template <class V>
void describe(V& v, std::type_identity<Config::Log>) {
  v.value("level", &Config::Log::level, kLevel, Apply::kReload);
  v.value("access", &Config::Log::access, kAccess, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Config::Limits>) {
  using L = Config::Limits;
  v.value("head_bytes", &L::head_bytes, Range{kKiB, kMiB}, Apply::kReload);
  v.value("body_bytes", &L::body_bytes, Range{kKiB, kGiB}, Apply::kReload);
  v.value("json_depth", &L::json_depth, Range{2, 512}, Apply::kReload);
  v.value("connections", &L::connections, Range{1, 1'000'000}, Apply::kReload);
  v.value(
      "connections_per_address", &L::connections_per_address, Range{1, 1'000'000}, Apply::kReload);
  v.value("in_flight", &L::in_flight, Range{1, 1'000'000}, Apply::kReload);
  v.value("answer_bytes", &L::answer_bytes, Range{kKiB, kGiB}, Apply::kReload);
  v.value("flight_log_bytes", &L::flight_log_bytes, Range{kKiB, kGiB}, Apply::kReload);
  v.value("subscribers", &L::subscribers, Range{1, 1'000'000}, Apply::kReload);
  v.value("flights", &L::flights, Range{1, 1'000'000}, Apply::kReload);
  v.value("head_read_ms", &L::head_read, Range{1, kDayMs}, Apply::kReload);
  v.value("body_stall_ms", &L::body_stall, Range{1, kDayMs}, Apply::kReload);
  v.value("idle_ms", &L::idle, Range{1, kDayMs}, Apply::kReload);
  v.value("write_stall_ms", &L::write_stall, Range{1, kDayMs}, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Config::Timeouts>) {
  using T = Config::Timeouts;
  v.value("connect_ms", &T::connect, Range{1, kDayMs}, Apply::kReload);
  v.value("worker_wait_ms", &T::worker_wait, Range{0, kDayMs}, Apply::kReload);
  v.value("first_token_ms", &T::first_token, Range{1, kDayMs}, Apply::kReload);
  v.value("token_ms", &T::token, Range{1, kDayMs}, Apply::kReload);
  v.value("keep_alive_ms", &T::keep_alive, Range{1, kDayMs}, Apply::kReload);
  v.value("drain_ms", &T::drain, Range{0, kDayMs}, Apply::kReload);
  v.value("linger_ms", &T::linger, Range{0, kDayMs}, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Config::PromptCache>) {
  using P = Config::PromptCache;
  v.value("entries", &P::entries, Range{1, 10'000'000}, Apply::kReload);
  v.value("bytes", &P::bytes, Range{64 * kKiB, 1024 * kGiB}, Apply::kReload);
  v.value("ttl_s", &P::ttl, Range{1, kYearS}, Apply::kReload);
  v.value("grace_s", &P::grace, Range{0, kYearS}, Apply::kReload);
  v.value("snapshot", &P::snapshot, Flag{}, Apply::kReload);
  v.value("snapshot_every_s", &P::snapshot_every, Range{1, kYearS}, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Config::PackedWeights>) {
  v.value("enabled", &Config::PackedWeights::enabled, Flag{}, Apply::kRestart);
  v.value("bytes", &Config::PackedWeights::bytes, Range{kMiB, 1024 * kGiB}, Apply::kRestart);
}

template <class V>
void describe(V& v, std::type_identity<Sharing::Coalescing>) {
  using C = Sharing::Coalescing;
  v.value("policy", &C::policy, Policy{}, Apply::kReload);
  v.value("join_timeout_ms", &C::join_timeout, Range{1, kDayMs}, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Sharing::Dedup>) {
  v.value("policy", &Sharing::Dedup::policy, Policy{}, Apply::kReload);
  v.value("ttl_ms", &Sharing::Dedup::ttl, Range{1, kDayMs}, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Sharing::PromptCache>) {
  v.value("policy", &Sharing::PromptCache::policy, Policy{}, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Sharing>) {
  v.group("coalescing", &Sharing::coalescing);
  v.group("dedup", &Sharing::dedup);
  v.group("prompt_cache", &Sharing::prompt_cache);
}

template <class V>
void describe(V& v, std::type_identity<Key>) {
  v.value("name", &Key::name, kName, Apply::kReload);
  v.secret(&Key::sha256);  // `sha256`, or `key` naming where the secret is
  v.value("sharing", &Key::sharing, Policy{}, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<UrlWorker>) {
  v.value("url", &UrlWorker::url, kUrl, Apply::kReload);
  v.value("model", &UrlWorker::model, kForeignName, Apply::kReload);
}

template <class V>
void describe(V& v, std::type_identity<Model>) {
  v.value("id", &Model::id, kName, Apply::kReload);
  v.value("source", &Model::source, kSource, Apply::kRestart);
  v.workers();  // a number, or a list of UrlWorker with `kind: url`
  v.group("sharing", &Model::sharing);
  v.native_only([](auto& n) {
    n.value("compute", &Model::compute, kCompute, Apply::kRestart);
    n.value("context_tokens", &Model::context_tokens_max, Range{16, 16'777'216}, Apply::kRestart);
    n.value("kv_bytes", &Model::kv_bytes, Range{kMiB, 1024 * kGiB}, Apply::kRestart);
    n.within("batch", [](auto& b) {
      b.value("max_sequences", &Model::sequences_max, Range{1, 4096}, Apply::kRestart);
      b.value("step_tokens", &Model::step_tokens_max, Range{1, 65'536}, Apply::kRestart);
      b.value("latency_budget_ms", &Model::latency_budget, Range{0, kDayMs}, Apply::kRestart);
      b.value("first_token_ms", &Model::first_token_max, Range{0, kDayMs}, Apply::kRestart);
      b.value("prefix_cache", &Model::prefix_cache, Flag{}, Apply::kRestart);
    });
    n.within("queue", [](auto& q) {
      q.value("waiting", &Model::waiting_max, Range{0, 1'000'000}, Apply::kRestart);
    });
  });
}

template <class V>
void describe(V& v, std::type_identity<Config>) {
  v.value("listen", &Config::listen, kListen, Apply::kRestart);
  v.group("admin", &Config::admin);
  v.value("threads", &Config::threads, Range{0, 256}, Apply::kRestart);
  v.list("keys", &Config::keys);
  v.value("allow_unauthenticated", &Config::allow_unauthenticated, Flag{}, Apply::kReload);
  v.texts("allowed_hosts", &Config::allowed_hosts, kHost, Apply::kReload);
  v.texts("allowed_origins", &Config::allowed_origins, kOrigin, Apply::kReload);
  v.group("log", &Config::log);
  v.group("limits", &Config::limits);
  v.group("timeouts", &Config::timeouts);
  v.group("prompt_cache", &Config::prompt_cache);
  v.group("packed_weights", &Config::packed_weights);
  v.value("state_dir", &Config::state_dir, kFolder, Apply::kRestart);
  v.list("models", &Config::models);
}

}  // namespace mlxs::config
