#include "config/config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace mlxs::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string error_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  const auto parsed = parse(text, "test.yaml", overrides);
  return parsed ? "(no error)" : parsed.error().message;
}

Config parsed(const std::string& text, const std::vector<std::string>& overrides = {}) {
  auto config = parse(text, "test.yaml", overrides);
  EXPECT_TRUE(config) << (config ? "" : config.error().message);
  return config ? *config : Config{};
}

constexpr const char* kModel = "models:\n  - id: m\n    source: m.gguf\n";

TEST(Config, AnEmptyFileIsTheDefaults) {
  const Config config = parsed("");

  EXPECT_EQ(config.listen, "127.0.0.1:8080");
  EXPECT_EQ(config.admin.listen, "127.0.0.1:8081");
  EXPECT_EQ(config.limits.body_bytes, 8U * 1024 * 1024);
  EXPECT_THAT(config.models, IsEmpty());
}

TEST(Config, ReadsEveryKindOfValue) {
  const Config config = parsed(
      "threads: 2\n"
      "allow_unauthenticated: on\n"
      "allowed_hosts: [example.com, 'box:8080']\n"
      "limits: { body_bytes: 16MiB, idle_ms: 5 }\n"
      "log: { access: false }\n"
      "models:\n"
      "  - id: org/native\n"
      "    source: models/a.gguf\n"
      "    workers: 2\n"
      "    context_tokens: 4096\n"
      "    kv_bytes: 1GiB\n"
      "    batch: { max_sequences: 8, step_tokens: 128, latency_budget_ms: 30,\n"
      "             first_token_ms: 700, prefix_cache: off }\n"
      "    queue: { waiting: 0 }\n"
      "  - id: foreign\n"
      "    workers: [ { kind: url, url: 'http://127.0.0.1:9001/v1', model: theirs } ]\n");

  EXPECT_EQ(config.threads, 2);
  EXPECT_TRUE(config.allow_unauthenticated);
  EXPECT_THAT(config.allowed_hosts, ElementsAre("example.com", "box:8080"));
  EXPECT_EQ(config.limits.body_bytes, 16U << 20);
  EXPECT_EQ(config.limits.idle, Milliseconds{5});
  EXPECT_EQ(config.log.access, "off");
  const Model& native = config.models.at(0);
  EXPECT_TRUE(native.native());
  EXPECT_EQ(native.workers, 2);
  EXPECT_EQ(native.context_tokens_max, 4096);
  EXPECT_EQ(native.kv_bytes, std::uint64_t{1} << 30);
  EXPECT_EQ(native.sequences_max, 8);
  EXPECT_EQ(native.step_tokens_max, 128);
  EXPECT_EQ(native.latency_budget, Milliseconds{30});
  EXPECT_EQ(native.first_token_max, Milliseconds{700});
  EXPECT_FALSE(native.prefix_cache);
  EXPECT_EQ(native.waiting_max, 0);
  const Model& foreign = config.models.at(1);
  EXPECT_FALSE(foreign.native());
  EXPECT_EQ(foreign.url_workers.at(0).url, "http://127.0.0.1:9001/v1");
  EXPECT_EQ(foreign.url_workers.at(0).model, "theirs");
}

TEST(Config, ComputeHasThreeModes) {
  for (const std::string mode : {"auto", "float32", "int8"}) {
    EXPECT_EQ(parsed("models: [ { id: a, source: a, compute: " + mode + " } ]").models[0].compute,
              mode);
  }
}

TEST(Config, SharingIsReadLayerByLayerAndOffAndFalseAreOne) {
  const Config config =
      parsed("keys: [ { name: a, sha256: '" + std::string(64, 'a') +
             "', sharing: deterministic } ]\n"
             "prompt_cache: { entries: 5, bytes: 1MiB, ttl_s: 7, grace_s: 0, snapshot: on }\n"
             "packed_weights: { enabled: off, bytes: 3GiB }\n"
             "state_dir: state\n"
             "models:\n"
             "  - id: m\n"
             "    source: m.gguf\n"
             "    sharing: { coalescing: { policy: off, join_timeout_ms: 9 },\n"
             "               dedup: { policy: deterministic, ttl_ms: 5 },\n"
             "               prompt_cache: { policy: false } }\n"
             "  - id: n\n"
             "    source: m.gguf\n");

  EXPECT_EQ(config.keys.at(0).sharing, SharePolicy::kDeterministic);
  EXPECT_EQ(config.prompt_cache.entries, 5);
  EXPECT_EQ(config.prompt_cache.ttl, Seconds{7});
  EXPECT_EQ(config.prompt_cache.grace, Seconds{0});
  EXPECT_TRUE(config.prompt_cache.snapshot);
  EXPECT_FALSE(config.packed_weights.enabled);
  EXPECT_EQ(config.packed_weights.bytes, 3ULL << 30);
  EXPECT_EQ(state_folder(config).value(), "state");
  const Sharing& some = config.models.at(0).sharing;
  EXPECT_EQ(some.coalescing.policy, SharePolicy::kOff);
  EXPECT_EQ(some.coalescing.join_timeout, Milliseconds{9});
  EXPECT_EQ(some.dedup.policy, SharePolicy::kDeterministic);
  EXPECT_EQ(some.dedup.ttl, Milliseconds{5});
  EXPECT_EQ(some.prompt_cache.policy, SharePolicy::kOff);
  const Sharing& others = config.models.at(1).sharing;
  EXPECT_EQ(others.coalescing.policy, SharePolicy::kAll);
  EXPECT_EQ(others.dedup.policy, SharePolicy::kAll);
  EXPECT_EQ(others.prompt_cache.policy, SharePolicy::kDeterministic);
}

TEST(Config, PoliciesAreThreeWords) {
  EXPECT_EQ(error_of("models:\n  - id: m\n    source: m\n    sharing: { dedup: { policy: some } }"),
            "test.yaml:4: models[0].sharing.dedup.policy: expected all, deterministic or off, got "
            "\"some\"");
  EXPECT_THAT(error_of("prompt_cache: { ttl_s: 1.5 }"), HasSubstr("expected seconds from 1"));
}

TEST(Config, StateLivesWhereTheEnvironmentSaysUnlessAFolderIsGiven) {
  ::setenv("HOME", "/home", 1);
  ::setenv("XDG_STATE_HOME", "relative", 1);
  EXPECT_EQ(state_folder({}).value(), "/home/.local/state/mlx-serving");

  ::setenv("XDG_STATE_HOME", "/xdg", 1);
  EXPECT_EQ(state_folder({}).value(), "/xdg/mlx-serving");

  ::unsetenv("XDG_STATE_HOME");
  ::unsetenv("HOME");
  EXPECT_EQ(state_folder({}).error().param, "state_dir");
}

TEST(Config, ErrorsNameFileLineAndKey) {
  EXPECT_EQ(error_of("listen: 127.0.0.1:1\nlimits:\n  json_depth: many\n"),
            "test.yaml:3: limits.json_depth: expected a whole number from 2 to 512, got \"many\"");
  EXPECT_EQ(parse("threads: -1", "f").error().param, "threads");
  EXPECT_EQ(parse("threads: -1", "f").error().code, ErrorCode::kConfig);
}

TEST(Config, UnknownKeysAreErrorsWithTheNearestKey) {
  EXPECT_EQ(error_of("lisen: 127.0.0.1:1\n"),
            "test.yaml:1: lisen: unknown key; did you mean listen?");
  EXPECT_EQ(error_of("limits:\n  body_byte: 1MiB\n"),
            "test.yaml:2: limits.body_byte: unknown key; did you mean body_bytes?");
  EXPECT_EQ(error_of("models:\n  - id: m\n    source: s\n    batch: { sequences: 1 }\n"),
            "test.yaml:4: models[0].batch.sequences: unknown key; did you mean max_sequences?");
  EXPECT_EQ(error_of("models: [ { id: x, sourcee: y } ]"),
            "test.yaml:1: models[0].sourcee: unknown key; did you mean source?");
  EXPECT_EQ(error_of("qqqqqqqq: 1\n"), "test.yaml:1: qqqqqqqq: unknown key");
}

TEST(Config, AKeyInTheWrongSectionIsPointedToTheRightOne) {
  EXPECT_EQ(error_of("body_bytes: 1MiB\n"),
            "test.yaml:1: body_bytes: unknown key; did you mean limits.body_bytes?");
}

TEST(Config, DuplicateKeysAreErrors) {
  EXPECT_EQ(error_of("threads: 1\nlisten: 127.0.0.1:1\nthreads: 2\n"),
            "test.yaml:3: threads: this key occurs twice");
}

TEST(Config, WrongTypesAreErrors) {
  EXPECT_THAT(error_of("threads: [1]"), HasSubstr("1: threads: expected a whole number"));
  EXPECT_THAT(error_of("threads: \"1\""), HasSubstr("got \"1\""));
  EXPECT_THAT(error_of("threads:"), HasSubstr("got nothing"));
  EXPECT_THAT(error_of("threads: 1.5"), HasSubstr("got \"1.5\""));
  EXPECT_THAT(error_of("allow_unauthenticated: 1"), HasSubstr("expected true, false, on or off"));
  EXPECT_THAT(error_of("limits: 3"), HasSubstr("limits: expected keys with values"));
  EXPECT_THAT(error_of("models: { id: m }"), HasSubstr("models: expected a list"));
  EXPECT_THAT(error_of("allowed_hosts: example.com"), HasSubstr("expected a list"));
  EXPECT_THAT(error_of("limits: { body_bytes: 8 MiB B }"), HasSubstr("expected a size"));
  EXPECT_THAT(error_of("limits: { body_bytes: 99999999999999999999GiB }"), HasSubstr("a size"));
  EXPECT_THAT(error_of("[1, 2]"), HasSubstr("expected keys with values"));
  EXPECT_THAT(error_of("a: b: c"), HasSubstr("test.yaml:1: not YAML"));
  EXPECT_THAT(error_of("? [a]\n: 1"), HasSubstr("a key must be plain text"));
  EXPECT_THAT(error_of("threads: 1\n---\nthreads: 2\n"), HasSubstr("more than one"));
}

TEST(Config, ImpossibleModelsAreErrors) {
  EXPECT_THAT(error_of("models: [ { source: a } ]"), HasSubstr("models[0].id: is missing"));
  EXPECT_THAT(error_of("models: [ { id: a } ]"), HasSubstr("models[0].source: is missing"));
  EXPECT_THAT(error_of("models: [ { id: 'a b', source: a } ]"), HasSubstr("without spaces"));
  EXPECT_THAT(error_of("models: [ { id: a, source: a }, { id: a, source: b } ]"),
              HasSubstr("models[1].id: another model has the id a"));
  EXPECT_THAT(error_of("models: [ { id: a, source: a, compute: int3 } ]"),
              HasSubstr("expected auto, float32 or int8"));
  EXPECT_THAT(error_of("models: [ { id: a, workers: [] } ]"), HasSubstr("the list is empty"));
  EXPECT_THAT(error_of("models: [ { id: a, workers: [ { url: 'http://h/v1' } ] } ]"),
              HasSubstr("models[0].workers[0].kind: is missing"));
  EXPECT_THAT(error_of("models: [ { id: a, workers: [ { kind: command, url: 'http://h' } ] } ]"),
              HasSubstr("expected url"));
  EXPECT_THAT(error_of("models: [ { id: a, workers: [ { kind: url } ] } ]"),
              HasSubstr("workers[0].url: is missing"));
  EXPECT_THAT(error_of("models: [ { id: a, workers: [ { kind: url, url: 'ftp://h/v1' } ] } ]"),
              HasSubstr("expected http://HOST:PORT/PATH"));
  EXPECT_THAT(
      error_of("models: [ { id: a, source: s, workers: [ { kind: url, url: 'unix:/w' } ] } ]"),
      HasSubstr("not both"));
  EXPECT_THAT(
      error_of("models: [ { id: a, compute: auto, workers: [ { kind: url, url: 'unix:/w' } ] } ]"),
      HasSubstr("models[0].compute: only a model with a source has this key"));
  EXPECT_THAT(error_of("models:\n  - id: a\n    source: s\n    batch:\n      step_tokens: 8\n"),
              HasSubstr("models[0].batch.step_tokens: 8 is less than batch.max_sequences (64)"));
}

// R: beyond loopback nothing starts without keys unless told so.
TEST(Config, ListeningBeyondLoopbackNeedsKeysOrPermission) {
  const std::string open = "listen: 0.0.0.0:8080\n";
  const std::string admin = "admin: { listen: '[::]:8081' }\n";
  const std::string key = "keys: [ { name: a, sha256: \"" + std::string(64, 'a') + "\" } ]\n";

  EXPECT_THAT(error_of(open), HasSubstr("test.yaml:1: listen: 0.0.0.0:8080 can be reached"));
  EXPECT_THAT(error_of(open), HasSubstr("allow_unauthenticated: true"));
  EXPECT_THAT(error_of("\n" + admin), HasSubstr("test.yaml:2: admin.listen: [::]:8081 can be"));
  EXPECT_TRUE(parse(open + admin + key, "f"));
  EXPECT_TRUE(parse(open + admin + "allow_unauthenticated: true\n", "f"));
  EXPECT_TRUE(parse("listen: '[::1]:80'\nadmin: { listen: 'unix:/run/a.sock' }", "f"));
  EXPECT_THAT(error_of("listen: 127.evil.example:80"), HasSubstr("can be reached"));
}

TEST(Config, AddressesMustBeOnes) {
  for (const char* text : {"8080",
                           "127.0.0.1",
                           "127.0.0.1:",
                           "127.0.0.1:65536",
                           "::1:80",
                           "[x]:1",
                           "unix:relative",
                           "http://127.0.0.1:80",
                           "a b:80",
                           "127.0.0.1:80x"})
    EXPECT_THAT(error_of(fmt::format("listen: \"{}\"", text)), HasSubstr("listen: expected HOST"))
        << text;
  EXPECT_THAT(error_of("listen: localhost:1\nadmin: { listen: localhost:1 }"),
              HasSubstr("admin.listen has the same address"));
  EXPECT_TRUE(parse("listen: localhost:0\nadmin: { listen: localhost:0 }", "f"));
}

TEST(Config, SecretsComeFromTheEnvironmentOrAFileAndAreHashed) {
  const std::string file = fmt::format("{}mlxs_config_secret_{}", ::testing::TempDir(), ::getpid());
  std::ofstream{file} << "from-file\n";
  ::setenv("MLXS_TEST_SECRET", "from-environment", 1);

  const Config config = parsed(fmt::format(
      "keys:\n  - {{ name: a, key: '${{MLXS_TEST_SECRET}}' }}\n  - {{ name: b, key: 'file:{}' }}\n",
      file));

  EXPECT_EQ(config.keys.at(0).sha256, sha256("from-environment"));
  EXPECT_EQ(config.keys.at(1).sha256, sha256("from-file"));
  EXPECT_THAT(render(config), ::testing::Not(HasSubstr("from-")));
  std::filesystem::remove(file);
}

TEST(Config, SecretsThatAreNotThereAreErrors) {
  ::unsetenv("MLXS_TEST_UNSET");
  const std::string hex(64, '0');

  EXPECT_THAT(error_of("keys: [ { name: a, key: '${MLXS_TEST_UNSET}' } ]"),
              HasSubstr("keys[0].key: the environment variable MLXS_TEST_UNSET is not set"));
  EXPECT_THAT(error_of("keys: [ { name: a, key: 'file:/nonexistent/x' } ]"),
              HasSubstr("cannot read the file"));
  EXPECT_THAT(error_of("keys: [ { name: a, key: hunter2 } ]"), HasSubstr("does not belong here"));
  EXPECT_THAT(error_of("keys: [ { name: a } ]"), HasSubstr("either sha256 or key"));
  EXPECT_THAT(error_of("keys: [ { name: a, sha256: abc } ]"), HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(error_of(fmt::format("keys: [ {{ name: a, sha256: '{0}' }}, {{ name: a, sha256: "
                                   "'{0}' }} ]",
                                   hex)),
              HasSubstr("keys[1].name: another key has this name"));
  EXPECT_THAT(error_of(fmt::format("keys: [ {{ name: a, sha256: '{0}' }}, {{ name: b, sha256: "
                                   "'{0}' }} ]",
                                   hex)),
              HasSubstr("another key has the same secret"));
}

TEST(Config, OverridesReachEverywhere) {
  const Config config = parsed(kModel,
                               {"listen=127.0.0.1:9",
                                "limits.in_flight=3",
                                "models[0].batch.max_sequences=7",
                                "models[1].id=second",
                                "models[1].workers=[{kind: url, url: 'http://h:1/v1'}]",
                                "allowed_hosts=[a, b]"});

  EXPECT_EQ(config.listen, "127.0.0.1:9");
  EXPECT_EQ(config.limits.in_flight, 3);
  EXPECT_EQ(config.models.at(0).sequences_max, 7);
  EXPECT_EQ(config.models.at(1).id, "second");
  EXPECT_THAT(config.allowed_hosts, ElementsAre("a", "b"));
}

TEST(Config, OverridesThatDoNotFitAreErrors) {
  EXPECT_THAT(error_of(kModel, {"limits.in_flight=0"}),
              HasSubstr("--set: limits.in_flight: expected a whole number from 1"));
  EXPECT_THAT(error_of(kModel, {"threads"}), HasSubstr("--set: threads: expected key=value"));
  EXPECT_THAT(error_of(kModel, {"=1"}), HasSubstr("expected key=value"));
  EXPECT_THAT(error_of(kModel, {"models[x].id=1"}), HasSubstr("expected key=value"));
  EXPECT_THAT(error_of(kModel, {"models[5].id=a"}), HasSubstr("no such place"));
  EXPECT_THAT(error_of(kModel, {"models.id=a"}), HasSubstr("no such place"));
  EXPECT_THAT(error_of(kModel, {"thread=1"}), HasSubstr("did you mean threads?"));
  EXPECT_THAT(error_of(kModel, {"threads=[1"}), HasSubstr("not YAML"));
}

TEST(Config, FilesThatCannotBeReadAreErrors) {
  const auto config = load("/nonexistent/mlx.yaml");

  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().message, "/nonexistent/mlx.yaml: cannot be read");
  EXPECT_FALSE(load(::testing::TempDir()));
}

TEST(Config, NestedAnchorsCannotFillTheMemory) {
  std::string text = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 12; ++i)
    text += fmt::format("a{}: &a{} [*a{},*a{},*a{},*a{},*a{},*a{},*a{},*a{}]\n",
                        i,
                        i,
                        i - 1,
                        i - 1,
                        i - 1,
                        i - 1,
                        i - 1,
                        i - 1,
                        i - 1,
                        i - 1);

  EXPECT_THAT(error_of(text), HasSubstr("too many"));
  EXPECT_THAT(error_of(std::string(100'000, '[')), HasSubstr("too deeply nested"));
  EXPECT_THAT(error_of("a: &a [*a]"), HasSubstr("inside its anchor"));
}

TEST(Config, ReloadNamesWhatNeedsARestart) {
  const Config before = parsed(std::string{kModel} + "threads: 1\n");
  Config after = before;
  after.listen = "127.0.0.1:1";
  after.admin.listen = "127.0.0.1:2";
  after.limits.in_flight = 1;
  after.models.insert(after.models.begin(), Model{.id = "new", .source = "n.gguf"});
  after.models.at(1).source = "other.gguf";
  after.models.at(1).sequences_max = 3;
  after.models.at(1).workers = 4;

  EXPECT_THAT(
      restart_needed(before, after),
      ElementsAre("listen", "admin.listen", "models[1].source", "models[1].batch.max_sequences"));
  EXPECT_THAT(restart_needed(before, before), IsEmpty());
}

TEST(Config, ReloadKeepsWhatNeedsARestart) {
  const Config before = parsed(kModel);
  Config after = before;
  after.listen = "127.0.0.1:1";
  after.limits.in_flight = 1;
  after.models.at(0).source = "other.gguf";
  after.models.at(0).workers = 4;

  const auto config = reloaded(before, after);

  ASSERT_TRUE(config);
  EXPECT_EQ(config->listen, before.listen);
  EXPECT_EQ(config->models.at(0).source, "m.gguf");
  EXPECT_EQ(config->limits.in_flight, 1);
  EXPECT_EQ(config->models.at(0).workers, 4);
}

TEST(Config, ReloadCannotOpenAServerThatListensBeyondLoopback) {
  const Config before = parsed("listen: 0.0.0.0:80\nkeys: [ { name: a, sha256: \"" +
                               std::string(64, '1') + "\" } ]\n");
  const Config after = parsed("listen: 127.0.0.1:80\n");

  EXPECT_FALSE(reloaded(before, after));
}

TEST(Config, DefaultsAreRenderedWithEveryKey) {
  const std::string text = render_defaults();

  EXPECT_EQ(parsed(text), parsed(""));
  for (const KeyInfo& info : keys()) {
    const std::string leaf = info.path.substr(info.path.rfind('.') + 1);
    EXPECT_THAT(text, HasSubstr(leaf + ":"));
  }
}

TEST(Config, TheShippedConfigurationIsValid) {
  const auto config = load(MLXS_SOURCE_DIR "/config/default.yaml");

  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->models.at(0).id, "smollm2-135m-instruct");
}

/// "| `limits.idle_ms` | milliseconds | 60000 | 1 to 86400000 | reload | …": the first columns are
/// the program's own words, so that the page cannot drift.
TEST(Config, EveryKeyHasItsRowInTheDocumentation) {
  std::ifstream in{MLXS_SOURCE_DIR "/docs/flags.md"};
  std::stringstream page;
  page << in.rdbuf();

  for (const KeyInfo& info : keys())
    EXPECT_THAT(page.str(),
                HasSubstr(fmt::format("| `{}` | {} | {} | {} | {} | ",
                                      info.path,
                                      info.type,
                                      info.default_value.empty() ? "–" : info.default_value,
                                      info.range,
                                      info.restart ? "restart" : "reload")));
}

}  // namespace
}  // namespace mlxs::config
