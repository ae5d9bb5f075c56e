#include "http/test_server.h"
#include "worker/worker_fixture.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <semaphore>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace mlxs::worker {
namespace {

namespace json = boost::json;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kCompletions = "/v1/completions";

std::string chat(std::string_view more = {}) {
  return fmt::format(
      R"({{"model":"fake","messages":[{{"role":"user","content":"hi"}}],"temperature":0{}}})",
      more);
}

std::string completion(std::string_view more = {}, std::string_view prompt = "hello") {
  return fmt::format(R"({{"model":"fake","prompt":"{}","temperature":0{}}})", prompt, more);
}

std::string text_of(const http::Response& response) {
  EXPECT_EQ(response.status, 200) << response.body;
  const json::value body = json_of(response);
  return std::string{body.at("choices").at(0).at("text").as_string()};
}

/// Of a stream without its end: the chunks up to [DONE], which must be last.
std::vector<std::string> chunks_of(EventStream& stream) {
  std::vector<std::string> events = stream.rest();
  EXPECT_FALSE(events.empty());
  if (events.empty()) return events;
  EXPECT_EQ(events.back(), "[DONE]");
  events.pop_back();
  return events;
}

class Generate : public testing::Test {
 protected:
  Generate() { worker_.wait_ready(); }
  RunningWorker worker_{{.endless = true}};
};

TEST_F(Generate, AnswersAChatWholeWithUsage) {
  const auto response = post(worker_, kChat, chat(R"(,"max_tokens":7)"));

  ASSERT_EQ(response.status, 200) << response.body;
  const json::value body = json_of(response);
  EXPECT_EQ(body.at("object").as_string(), "chat.completion");
  const json::value& choice = body.at("choices").at(0);
  EXPECT_EQ(choice.at("message").at("role").as_string(), "assistant");
  EXPECT_EQ(choice.at("message").at("content").as_string().size(), 7U);
  EXPECT_EQ(choice.at("finish_reason").as_string(), "length");
  // "user: hi\nassistant: " in bytes.
  EXPECT_EQ(body.at("usage").at("prompt_tokens").as_int64(), 20);
  EXPECT_EQ(body.at("usage").at("completion_tokens").as_int64(), 7);
  EXPECT_EQ(body.at("usage").at("total_tokens").as_int64(), 27);
}

TEST_F(Generate, AStreamAddsUpToTheWholeAnswer) {
  const std::string whole = text_of(post(worker_, kCompletions, completion(R"(,"max_tokens":30)")));

  EventStream stream{
      worker_.address(), "POST", kCompletions, completion(R"(,"max_tokens":30,"stream":true)")};
  const auto chunks = chunks_of(stream);

  EXPECT_EQ(stream.status(), 200);
  EXPECT_THAT(std::string{stream.headers().get("content-type").value()},
              StartsWith("text/event-stream"));
  EXPECT_EQ(stream.headers().get("cache-control"), "no-store");
  EXPECT_EQ(stream.headers().get("x-accel-buffering"), "no");
  EXPECT_EQ(worker::text_of(chunks), whole);
}

TEST_F(Generate, AllChunksOfAStreamShareIdCreatedAndModel) {
  EventStream stream{
      worker_.address(),
      "POST",
      kChat,
      chat(R"(,"max_tokens":9,"stream":true,"stream_options":{"include_usage":true})")};
  const auto chunks = chunks_of(stream);

  std::set<std::string> heads;
  for (const std::string& event : chunks) {
    const json::value chunk = json::parse(event);
    heads.insert(json::serialize(chunk.at("id")) + json::serialize(chunk.at("created")) +
                 json::serialize(chunk.at("model")) + json::serialize(chunk.at("object")));
  }
  EXPECT_EQ(heads.size(), 1U);
  const json::value usage = json::parse(chunks.back());
  EXPECT_TRUE(usage.at("choices").as_array().empty());
  EXPECT_EQ(usage.at("usage").at("completion_tokens").as_int64(), 9);
}

TEST_F(Generate, TokenIdsStandForTheText) {
  EventStream stream{worker_.address(),
                     "POST",
                     kCompletions,
                     completion(R"(,"max_tokens":12,"stream":true,"mlxs":{"token_ids":true})")};
  const auto chunks = chunks_of(stream);

  std::string from_ids;
  for (const std::string& event : chunks) {
    const json::value chunk = json::parse(event);
    for (const json::value& id : chunk.at("mlxs").at("token_ids").as_array())
      from_ids.push_back(static_cast<char>(id.as_int64()));
  }
  EXPECT_EQ(from_ids, worker::text_of(chunks));
  EXPECT_EQ(from_ids.size(), 12U);
}

TEST_F(Generate, AStopStringEndsTheAnswerBeforeIt) {
  const std::string whole = text_of(post(worker_, kCompletions, completion(R"(,"max_tokens":30)")));
  const std::string stop = whole.substr(10, 3);

  const auto response =
      post(worker_, kCompletions, completion(fmt::format(R"(,"max_tokens":30,"stop":"{}")", stop)));

  EXPECT_EQ(text_of(response), whole.substr(0, whole.find(stop)));
  EXPECT_EQ(json_of(response).at("choices").at(0).at("finish_reason").as_string(), "stop");
}

TEST_F(Generate, EchoBeginsWithThePrompt) {
  const std::string plain = text_of(post(worker_, kCompletions, completion(R"(,"max_tokens":5)")));

  EXPECT_EQ(text_of(post(worker_, kCompletions, completion(R"(,"max_tokens":5,"echo":true)"))),
            "hello" + plain);
  EventStream stream{worker_.address(),
                     "POST",
                     kCompletions,
                     completion(R"(,"max_tokens":5,"echo":true,"stream":true)")};
  EXPECT_EQ(worker::text_of(chunks_of(stream)), "hello" + plain);
}

TEST_F(Generate, ThePromptMayBeTokenIds) {
  const std::string text = text_of(post(worker_, kCompletions, completion(R"(,"max_tokens":5)")));

  EXPECT_EQ(
      text_of(post(
          worker_,
          kCompletions,
          R"({"model":"fake","prompt":[1,104,101,108,108,111],"temperature":0,"max_tokens":5})")),
      text);
  const auto unknown =
      post(worker_, kCompletions, R"({"model":"fake","prompt":[1,257],"temperature":0})");
  EXPECT_EQ(unknown.status, 400);
  EXPECT_EQ(error_of(unknown), "invalid_value prompt[1]");
}

TEST_F(Generate, WithoutALimitAnAnswerEndsWithTheContext) {
  const auto response = post(worker_, kCompletions, completion());

  const json::value body = json_of(response);
  EXPECT_EQ(body.at("usage").at("total_tokens").as_int64(), 2048);
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason").as_string(), "length");
}

TEST_F(Generate, APromptOverTheContextIsRefused) {
  const auto response = post(worker_, kCompletions, completion({}, std::string(2048, 'x')));

  EXPECT_EQ(response.status, 400);
  EXPECT_THAT(error_of(response), StartsWith("context_length_exceeded"));
  EXPECT_THAT(response.body, HasSubstr("maximum context length"));
}

// R-ENG-6, over HTTP; the table itself is walked in the api folder.
TEST_F(Generate, FieldErrorsAre400AndNameTheField) {
  const auto refused = [&](const char* target, const std::string& body) {
    const auto response = post(worker_, target, body);
    EXPECT_EQ(response.status, 400) << response.body;
    EXPECT_EQ(response.headers.get("x-should-retry"), "false");
    return error_of(response);
  };

  EXPECT_EQ(refused(kChat, "{"), "invalid_value ");
  EXPECT_EQ(refused(kChat, chat(R"(,"temperature":3)")), "invalid_value temperature");
  EXPECT_EQ(refused(kChat, chat(R"(,"verbosity":"low")")), "unsupported_parameter verbosity");
  EXPECT_EQ(refused(kChat, chat(R"(,"n":65)")), "invalid_value n");  // 64 run at a time
  EXPECT_EQ(refused(kCompletions, completion(R"(,"n":13,"prompt":["a","b","c","d","e"])")),
            "invalid_value n");
  EXPECT_EQ(refused(kChat, chat(R"(,"stop":[1])")), "invalid_value stop[0]");
  EXPECT_EQ(refused(kChat, chat(R"(,"messages":[{"role":"robot","content":"x"}])")),
            "invalid_value messages[0].role");
  EXPECT_EQ(refused(kCompletions, R"({"model":"fake"})"), "invalid_value prompt");
  EXPECT_EQ(refused(kCompletions, completion(R"(,"max_tokens":0)")), "invalid_value max_tokens");
  EXPECT_EQ(refused(kCompletions, completion(R"(,"stream":1)")), "invalid_value stream");
}

TEST_F(Generate, AnotherModelIsNotFound) {
  const auto response = post(worker_, kCompletions, R"({"model":"other","prompt":"x"})");

  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(error_of(response), "model_not_found model");
}

TEST_F(Generate, EveryAnswerCarriesTheRequestsId) {
  const auto mine =
      post(worker_, kCompletions, completion(R"(,"max_tokens":1)"), {{"x-request-id", "mine-1"}});
  const auto fresh = post(worker_, kCompletions, "{");
  const auto odd = post(worker_, kCompletions, "{", {{"x-request-id", std::string(200, 'x')}});

  EXPECT_EQ(mine.headers.get("x-request-id"), "mine-1");
  EXPECT_TRUE(mine.headers.get("openai-processing-ms"));
  EXPECT_THAT(std::string{fresh.headers.get("x-request-id").value()}, StartsWith("req_"));
  EXPECT_THAT(std::string{odd.headers.get("x-request-id").value()}, StartsWith("req_"));
}

TEST_F(Generate, AHundredAtOnceAllCompleteAsTheyDoAlone) {
  const auto body = [](int k) {
    return completion(R"(,"max_tokens":20)", fmt::format("prompt {}", k));
  };
  std::vector<std::string> together(100);
  {
    std::vector<std::jthread> clients;
    for (int k = 0; k < 100; ++k)
      clients.emplace_back([&, k] {
        together[static_cast<std::size_t>(k)] = text_of(post(worker_, kCompletions, body(k)));
      });
  }

  for (int k = 0; k < 100; k += 9)
    EXPECT_EQ(text_of(post(worker_, kCompletions, body(k))), together[static_cast<std::size_t>(k)]);
  EXPECT_EQ(std::set<std::string>(together.begin(), together.end()).size(), 100U);
}

TEST(GenerateSampled, TheRequestsSeedWinsOverTheDrawnOne) {
  RunningWorker worker;  // The unscripted model, whose logits leave a choice.
  worker.wait_ready();
  const auto sample = [&](std::string_view more) {
    return text_of(post(
        worker,
        kCompletions,
        fmt::format(R"({{"model":"fake","prompt":"x","temperature":1,"max_tokens":20{}}})", more)));
  };
  const std::string three = sample(R"(,"seed":3)");

  EXPECT_EQ(sample(R"(,"mlxs":{"seed":3})"), three);
  EXPECT_EQ(sample(R"(,"seed":3,"mlxs":{"seed":4})"), three);
  EXPECT_NE(sample(R"(,"seed":4)"), three);
  std::set<std::string> unseeded;
  for (int k = 0; k < 8; ++k) unseeded.insert(sample(""));
  EXPECT_GT(unseeded.size(), 1U);
}

TEST(GenerateWithoutTemplate, SaysSoAndStillCompletes) {
  RunningWorker worker{{.has_template = false, .endless = true}};
  worker.wait_ready();

  const auto response = post(worker, kChat, chat());

  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(error_of(response), "invalid_value messages");
  EXPECT_THAT(response.body, HasSubstr("chat template"));
  EXPECT_EQ(post(worker, kCompletions, completion(R"(,"max_tokens":1)")).status, 200);
}

/// A worker whose engine can be held inside a step.
class Held : public testing::Test {
 protected:
  explicit Held(Options options = {}) : worker_(knobs(), std::move(options)) {
    worker_.wait_ready();
  }
  ~Held() override { gate_.open(); }

  fake::ModelKnobs knobs() {
    fake::ModelKnobs knobs{.endless = true};
    knobs.before_step = [this](std::uint64_t) { gate_.pass(); };
    return knobs;
  }
  json::value state() {
    EventStream stream{worker_.address(), "GET", "/internal/state"};
    return json::parse(stream.next().value());
  }
  /// While a step is held: waits until the worker knows that the client left, lets the step end,
  /// and expects that no other begins for it.
  void expect_cancelled_within_a_step() {
    ASSERT_TRUE(eventually([&] {
      return get(worker_, "/metrics").body.find("finished_reason=\"abort\"") != std::string::npos;
    }));
    const auto steps = state().at("steps").as_int64();
    gate_.open();
    ASSERT_TRUE(eventually([&] { return state().at("running").as_int64() == 0; }));
    const json::value after = state();
    EXPECT_LE(after.at("steps").as_int64(), steps + 1);
    EXPECT_EQ(after.at("blocks_free"), after.at("blocks_total"));
  }

  Gate gate_;
  RunningWorker worker_;
};

class Bounded : public Held {
 protected:
  Bounded() : Held({.sequences_max = 1, .waiting_max = 1}) {}
};

TEST_F(Bounded, BeyondTheWaitingQueueIsA429ThatSaysWhenToRetry) {
  gate_.close();
  const std::string body = completion(R"(,"max_tokens":2)");
  std::vector<std::jthread> accepted;
  for (int k = 0; k < 2; ++k)
    accepted.emplace_back([&] { EXPECT_EQ(post(worker_, kCompletions, body).status, 200); });
  ASSERT_TRUE(eventually([&] {
    const json::value now = state();
    return now.at("running").as_int64() + now.at("waiting").as_int64() == 2;
  }));

  const auto refused = post(worker_, kCompletions, body);
  gate_.open();

  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(error_of(refused), "overloaded ");
  EXPECT_EQ(refused.headers.get("retry-after"), "1");
  EXPECT_EQ(refused.headers.get("x-should-retry"), "true");
}

// R-ENG-4: what can never fit is refused, whatever else goes on.
TEST(WorkerWithFewBlocks, RefusesAPromptThatAllBlocksDoNotHoldWith507) {
  RunningWorker worker{{.context_tokens_max = 256, .blocks_total = 8, .endless = true}};
  worker.wait_ready();  // eight blocks of four positions

  const auto refused = post(worker, kCompletions, completion("", std::string(40, 'a')));

  EXPECT_EQ(refused.status, 507);
  EXPECT_EQ(error_of(refused), "out_of_memory ");
  EXPECT_EQ(post(worker, kCompletions, completion(R"(,"max_tokens":2)")).status, 200);
}

// The one row is taken; who gets it next?
TEST(ServiceTier, PriorityGoesBeforeWhatCameEarlierAndFlexWaits) {
  std::counting_semaphore<> steps{0};
  RunningWorker worker{{.endless = true, .before_step = [&](std::uint64_t) { steps.acquire(); }},
                       {.sequences_max = 1, .waiting_max = 8}};
  worker.wait_ready();
  const auto sequences = [&] {
    EventStream stream{worker.address(), "GET", "/internal/state"};
    const json::value now = json::parse(stream.next().value());
    return now.at("running").as_int64() + now.at("waiting").as_int64();
  };
  std::vector<std::future<int>> answers;
  const auto ask = [&](std::string_view tier) {
    answers.push_back(std::async(
        std::launch::async,
        [&worker, body = chat(fmt::format(R"(,"max_tokens":1,"service_tier":"{}")", tier))] {
          return post(worker, kChat, body).status;
        }));
    const auto count = std::ssize(answers);
    ASSERT_TRUE(eventually([&] { return sequences() == count; }));
  };
  for (const char* tier : {"auto", "flex", "default", "scale", "priority", "fast"}) ask(tier);

  for (const std::size_t next : {0u, 4u, 5u, 2u, 3u, 1u}) {
    steps.release();
    EXPECT_EQ(answers[next].get(), 200) << next;
    for (std::future<int>& other : answers) {
      if (!other.valid()) continue;
      EXPECT_EQ(other.wait_for(std::chrono::seconds{0}), std::future_status::timeout);
    }
  }
}

TEST_F(Held, AClientThatLeavesStopsItsSequence) {
  gate_.close_after(2);
  {
    EventStream stream{
        worker_.address(), "POST", kCompletions, completion(R"(,"stream":true,"max_tokens":1900)")};
    ASSERT_TRUE(stream.next());
    gate_.wait_held();
  }
  expect_cancelled_within_a_step();
}

TEST_F(Held, AClientThatLeavesBeforeAWholeAnswerStopsItsSequenceToo) {
  gate_.close();
  const std::string body = completion(R"(,"max_tokens":1900)");
  http::RawClient client{worker_.address()};
  client.send(fmt::format("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{}",
                          kCompletions,
                          body.size(),
                          body));
  gate_.wait_held();

  client.close();

  expect_cancelled_within_a_step();
}

TEST_F(Held, ADeadlineBeforeTheFirstTokenIsA504EvenWhenTheEngineHangs) {
  gate_.close();

  const auto response = post(worker_, kCompletions, completion(), {{"x-request-timeout-ms", "50"}});

  EXPECT_EQ(response.status, 504);
  EXPECT_EQ(error_of(response), "deadline_exceeded ");
}

TEST_F(Held, ADeadlineInMidStreamIsTheLastEvent) {
  std::vector<std::string> events;
  // Longer and longer, until the deadline leaves the stream the time to begin.
  for (int ms = 100; events.empty() && ms < 60'000; ms *= 4) {
    gate_.close_after(2);
    EventStream stream{worker_.address(),
                       "POST",
                       kCompletions,
                       completion(R"(,"stream":true)"),
                       {{"x-request-timeout-ms", std::to_string(ms)}}};
    if (stream.status() == 200) events = stream.rest();
    gate_.open();
  }

  ASSERT_GT(events.size(), 1U);
  EXPECT_EQ(json::parse(events.back()).at("error").at("code").as_string(), "deadline_exceeded");
}

TEST_F(Held, ATimeoutThatIsNoNumberIsRefused) {
  const auto response =
      post(worker_, kCompletions, completion(), {{"x-request-timeout-ms", "soon"}});

  EXPECT_EQ(response.status, 400);
  EXPECT_EQ(error_of(response), "invalid_value x-request-timeout-ms");
}

TEST_F(Held, OtherRequestsAreAnsweredWhileAStepTakesLong) {
  gate_.close();
  std::jthread client{[&] {
    EXPECT_EQ(post(worker_, kCompletions, completion(R"(,"max_tokens":1)")).status, 200);
  }};
  gate_.wait_held();

  EXPECT_EQ(get(worker_, "/v1/models").status, 200);
  EXPECT_EQ(get(worker_, "/health").status, 200);
  gate_.open();
}

TEST(GenerateOnAFailingEngine, AnErrorBeforeTheFirstTokenIsTheStatus) {
  RunningWorker worker{{.endless = true, .fail_from_step = 0}};
  worker.wait_ready();

  const auto response = post(worker, kCompletions, completion(R"(,"stream":true)"));

  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(error_of(response), "internal_error ");
}

TEST(GenerateOnAFailingEngine, AnErrorInMidStreamIsTheLastEvent) {
  RunningWorker worker{{.endless = true, .fail_from_step = 3}};
  worker.wait_ready();

  EventStream stream{worker.address(), "POST", kCompletions, completion(R"(,"stream":true)")};
  const auto events = stream.rest();

  EXPECT_EQ(stream.status(), 200);
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(json::parse(events.back()).at("error").at("code").as_string(), "internal_error");
}

}  // namespace
}  // namespace mlxs::worker
