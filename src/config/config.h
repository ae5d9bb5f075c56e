#pragma once

#include "base/deadline.h"
#include "base/hash.h"
#include "base/result.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::config {

using Seconds = std::chrono::seconds;

/// Which answers a layer shares between requests. In the order of what they permit, so that of two
/// policies the smaller one wins.
enum class SharePolicy {
  kOff,
  kDeterministic,  ///< Temperature 0 or a seed (foreign models: temperature 0 said in so many
                   ///< words)
  kAll,
};
[[nodiscard]] std::string_view to_string(SharePolicy policy);

/// An API key: its owner's name and the SHA-256 of the secret. The secret itself is never kept.
struct Key {
  std::string name;
  Sha256 sha256{};
  SharePolicy sharing = SharePolicy::kAll;  ///< At most this for its requests, in every layer.
  bool operator==(const Key&) const = default;
};

/// A worker that the supervisor does not start.
struct UrlWorker {
  std::string url;    ///< "http://host:port/v1" or "unix:/path"
  std::string model;  ///< Its own name for the model; empty: ours.
  bool operator==(const UrlWorker&) const = default;
};

/// What a model's requests share, layer by layer.
struct Sharing {
  struct Coalescing {
    SharePolicy policy = SharePolicy::kAll;
    Milliseconds join_timeout{30'000};  ///< join_timeout_ms: waiting for a first token
    bool operator==(const Coalescing&) const = default;
  } coalescing;
  struct Dedup {
    SharePolicy policy = SharePolicy::kAll;
    Milliseconds ttl{1'000};  ///< ttl_ms: from an answer's completion
    bool operator==(const Dedup&) const = default;
  } dedup;
  struct PromptCache {
    SharePolicy policy = SharePolicy::kDeterministic;
    bool operator==(const PromptCache&) const = default;
  } prompt_cache;
  bool operator==(const Sharing&) const = default;
};

struct Model {
  std::string id;
  // Native: a source and a number of processes. Foreign: a list of URLs. Exactly one of the two.
  std::string source;
  int workers = 1;
  std::vector<UrlWorker> url_workers = {};
  std::string compute = "auto";                ///< auto | float32
  std::optional<int> context_tokens_max = {};  ///< context_tokens
  std::optional<std::uint64_t> kv_bytes = {};
  int sequences_max = 64;            ///< batch.max_sequences
  int step_tokens_max = 512;         ///< batch.step_tokens
  Milliseconds latency_budget{120};  ///< batch.latency_budget_ms
  Milliseconds first_token_max{0};   ///< batch.first_token_ms
  bool prefix_cache = true;          ///< batch.prefix_cache
  int waiting_max = 256;             ///< queue.waiting, in each worker
  Sharing sharing = {};
  [[nodiscard]] bool native() const { return url_workers.empty(); }
  bool operator==(const Model&) const = default;
};

/// The configuration in force. Field names here are the keys of the file unless a comment says
/// otherwise; every key is in docs/flags.md. A snapshot: made once, shared as shared_ptr<const>.
struct Config {
  std::string listen = "127.0.0.1:8080";
  struct Admin {
    std::string listen = "127.0.0.1:8081";
    bool operator==(const Admin&) const = default;
  } admin;
  int threads = 0;  ///< Data-plane loops; 0: one, two above four cores.
  std::vector<Key> keys;
  bool allow_unauthenticated = false;        ///< Needed to listen beyond loopback without keys.
  std::vector<std::string> allowed_hosts;    ///< Besides the listen address and loopback names.
  std::vector<std::string> allowed_origins;  ///< Web pages that may call; none by default.
  struct Log {
    std::string level = "info";
    std::string access = "stderr";  ///< stderr | off | a file's path
    bool operator==(const Log&) const = default;
  } log;
  struct Limits {
    std::uint64_t head_bytes = 16ULL * 1024;
    std::uint64_t body_bytes = 8ULL * 1024 * 1024;
    int json_depth = 64;
    int connections = 4096;
    int connections_per_address = 256;
    int in_flight = 1024;  ///< Requests being answered, waiting ones included: 429 beyond.
    std::uint64_t answer_bytes = 16ULL * 1024 * 1024;     ///< One request's log: error beyond.
    std::uint64_t flight_log_bytes = 4ULL * 1024 * 1024;  ///< Longer logs take no new subscribers.
    int subscribers = 1024;  ///< Requests that share one flight: the next one starts its own.
    int flights = 1024;      ///< Flights that can be joined: further ones stay private.
    Milliseconds head_read{10'000};    ///< head_read_ms
    Milliseconds body_stall{10'000};   ///< body_stall_ms
    Milliseconds idle{60'000};         ///< idle_ms
    Milliseconds write_stall{30'000};  ///< write_stall_ms
    bool operator==(const Limits&) const = default;
  } limits;
  struct Timeouts {
    Milliseconds connect{2'000};        ///< connect_ms: to a worker
    Milliseconds worker_wait{30'000};   ///< worker_wait_ms: parked while no worker is ready
    Milliseconds first_token{600'000};  ///< first_token_ms: foreign workers
    Milliseconds token{60'000};         ///< token_ms: silence between two events of a stream
    Milliseconds keep_alive{
        15'000};                 ///< keep_alive_ms: until the head is sent, and between comments
    Milliseconds drain{30'000};  ///< drain_ms: SIGTERM to the end of running requests
    Milliseconds linger{20};     ///< linger_ms: a flight without subscribers
    bool operator==(const Timeouts&) const = default;
  } timeouts;
  struct PromptCache {
    int entries = 10'000;
    std::uint64_t bytes = 256ULL * 1024 * 1024;
    Seconds ttl{300};             ///< ttl_s
    Seconds grace{10};            ///< grace_s: foreign models, stale after ttl
    bool snapshot = false;        ///< Kept over a restart, in state_dir.
    Seconds snapshot_every{300};  ///< snapshot_every_s
    bool operator==(const PromptCache&) const = default;
  } prompt_cache;
  struct PackedWeights {
    bool enabled = true;                               ///< Kept in state_dir.
    std::uint64_t bytes = 20ULL * 1024 * 1024 * 1024;  ///< Of all models.
    bool operator==(const PackedWeights&) const = default;
  } packed_weights;
  /// Where epochs, snapshots and packed weights are; empty: see `state_folder`.
  std::string state_dir;
  std::vector<Model> models;
  bool operator==(const Config&) const = default;
};

/// Reads `text` strictly: unknown keys, wrong types and impossible values are kConfig errors
/// reading "FILE:LINE: KEY: what is wrong", with KEY in `Error::param`. Secrets written as
/// `${NAME}` and `file:PATH` are resolved and hashed.
/// `overrides` are "a.b=value" (models[0].workers=2 reaches into lists) applied on top; their
/// errors read "--set: KEY: what is wrong".
[[nodiscard]] Result<Config> parse(std::string_view text,
                                   std::string_view file,
                                   std::span<const std::string> overrides = {});
[[nodiscard]] Result<Config> load(const std::filesystem::path& file,
                                  std::span<const std::string> overrides = {});

/// The whole configuration as YAML that `parse` reads back to an equal Config.
[[nodiscard]] std::string render(const Config& config);

/// Every key with its default, as YAML that `parse` reads to the default Config; the keys of list
/// elements stand in comments.
[[nodiscard]] std::string render_defaults();

/// Keys whose change between two configurations needs a restart of the whole server ("listen",
/// "models[0].source", indices as in `after`); empty if a reload suffices.
[[nodiscard]] std::vector<std::string> restart_needed(const Config& before, const Config& after);

/// `after` with the keys that need a restart left as they are in `before`: what is in force once
/// `after` has been reloaded. kConfig when that mixture is not allowed (the server still listens
/// where every machine can reach it, and `after` has no keys any more).
[[nodiscard]] Result<Config> reloaded(const Config& before, Config after);

/// `state_dir`, or where it is by default: $XDG_STATE_HOME/mlx-serving, else
/// $HOME/.local/state/mlx-serving. kConfig where the environment has neither.
[[nodiscard]] Result<std::filesystem::path> state_folder(const Config& config);

/// What there is to know about one key, for documentation and its test.
struct KeyInfo {
  std::string path;  ///< "limits.body_bytes", "models[].batch.step_tokens"
  std::string type;  ///< integer | size | milliseconds | seconds | boolean | text | list of text
  std::string default_value;  ///< Empty: none.
  std::string range;          ///< What is accepted, in words.
  bool restart = false;       ///< Whether a change needs a restart; else SIGHUP suffices.
};
/// Every key of the file, in its order.
[[nodiscard]] std::vector<KeyInfo> keys();

}  // namespace mlxs::config
