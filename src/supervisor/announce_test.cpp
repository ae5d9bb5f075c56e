#include "supervisor/announce.h"

#include "supervisor/control.h"
#include "supervisor/state_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mlxs::supervisor {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Announcement announcement() {
  return {
      .api = "127.0.0.1:8080", .admin = "127.0.0.1:8081", .model = "m", .took = Milliseconds{840}};
}

TEST(Announce, ShowsAddressesACurlLineAndAPythonSnippet) {
  const std::string text = ready_text(announcement());

  EXPECT_THAT(text, HasSubstr("is ready in 0.84 s"));
  EXPECT_THAT(text, HasSubstr("API    http://127.0.0.1:8080/v1\n"));
  EXPECT_THAT(text, HasSubstr("admin  http://127.0.0.1:8081\n"));
  EXPECT_THAT(text, HasSubstr("curl http://127.0.0.1:8080/v1/chat/completions"));
  EXPECT_THAT(text, HasSubstr("OpenAI(base_url=\"http://127.0.0.1:8080/v1\", api_key=\"unused\")"));
  EXPECT_THAT(text, Not(HasSubstr("authorization")));
}

TEST(Announce, ShowsWhereTheKeyGoesWhenOneIsNeeded) {
  Announcement with_keys = announcement();
  with_keys.keys = true;

  EXPECT_THAT(ready_text(with_keys), HasSubstr("authorization: Bearer $API_KEY"));
}

TEST(Announce, ShowsHowToReachAUnixSocket) {
  Announcement unix_socket = announcement();
  unix_socket.api = "unix:/run/a.sock";

  EXPECT_THAT(ready_text(unix_socket),
              HasSubstr("curl --unix-socket /run/a.sock http://localhost/v1/chat/completions"));
}

TEST(Announce, WithoutAModelThereIsNoExample) {
  Announcement none = announcement();
  none.model.clear();

  EXPECT_THAT(ready_text(none), HasSubstr("no model can serve"));
  EXPECT_THAT(ready_text(none), Not(HasSubstr("curl")));
}

TEST(Announce, ProgressNamesOnlyWhatIsStillLoading) {
  const std::vector<ModelProgress> models{{.id = "a", .load_progress = 0.4},
                                          {.id = "b", .ready = true},
                                          {.id = "c", .failed = true},
                                          {.id = "d", .load_progress = 1.0}};

  EXPECT_EQ(progress_line(models, Milliseconds{3'100}), "loading a 40 %, d 100 %, 3 s");
  EXPECT_EQ(progress_line({}, Milliseconds{3'100}), "");
  EXPECT_EQ(progress_line({{.id = "a", .load_progress = 0.4},
                           {.id = "b", .pulling = true, .load_progress = 0.03},
                           {.id = "c", .pulling = true, .load_progress = 0.5}},
                          Milliseconds{12'000}),
            "loading a 40 %, pulling b 3 %, c 50 %, 12 s");
}

TEST(Control, MessagesAreOneLineEach) {
  EXPECT_EQ(config_message("a: 1\nb: \"x\"\n"), R"({"type":"config","yaml":"a: 1\nb: \"x\"\n"})");
  EXPECT_EQ(drain_message(), R"({"type":"drain"})");
  EXPECT_EQ(workers_message({{.id = "m/0",
                              .model = "m",
                              .address = "unix:/w0.sock",
                              .pid = 12,
                              .state = "backoff",
                              .restarts = 2,
                              .error = "signal 9",
                              .retry_in_ms = 200}}),
            R"({"type":"workers","workers":[{"id":"m/0","model":"m","address":"unix:/w0.sock",)"
            R"("pid":12,"state":"backoff","restarts":2,"error":"signal 9","retry_in_ms":200}]})");
}

TEST(Control, OnlyMessagesHaveAType) {
  EXPECT_EQ(message_type(R"({"type":"ready"})"), "ready");
  for (const char* line : {"", "ready", "{}", "[]", R"({"type":1})", "{\"type\":\"ready\""})
    EXPECT_EQ(message_type(line), "") << line;
}

TEST(StateWatch, ReadsWhatItNeedsAndNothingElse) {
  const auto loading = parse_worker_state(R"({"ready":false,"load_progress":0.25,"x":[1]})");
  const auto busy = parse_worker_state(R"({"ready":true,"running":3,"waiting":2})");

  ASSERT_TRUE(loading && busy);
  EXPECT_FALSE(loading->ready);
  EXPECT_EQ(loading->load_progress, 0.25);
  EXPECT_FALSE(loading->pulling);
  const auto pulling = parse_worker_state(
      R"({"ready":false,"load_progress":0,"pull":{"bytes":30,"bytes_total":120}})");
  ASSERT_TRUE(pulling);
  EXPECT_TRUE(pulling->pulling);
  EXPECT_EQ(pulling->load_progress, 0.25);
  EXPECT_TRUE(busy->ready);
  EXPECT_EQ(busy->unfinished, 5);
  for (const char* text : {"", "{}", "[true]", R"({"ready":1})"})
    EXPECT_FALSE(parse_worker_state(text)) << text;
}

}  // namespace
}  // namespace mlxs::supervisor
