// Random schedules of clients that join, read, stand still, leave and come late, over several event
// loops and real sockets. Whatever the others do, whoever stays gets the whole answer.
#include "gateway/testing/test_gateway.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace mlxs::gateway {
namespace {

using namespace script;

// More by MLXS_SCHEDULES; a schedule that fails names the seed that repeats it.
int schedules() {
  const char* given = std::getenv("MLXS_SCHEDULES");
  return given == nullptr ? 2000 : std::atoi(given);
}

class Schedule {
 public:
  Schedule(NativePair& pair, unsigned seed) : pair_(pair), random_(seed), seed_(seed) {
    const int tokens = 2 + pick(6);
    gate_ = "gate" + std::to_string(seed);
    const int gate_at = pick(tokens);
    Script steps;
    for (int k = 0; k < tokens; ++k) {
      if (k == gate_at) steps.push_back(gate(gate_));
      const std::string piece = std::to_string(seed) + "." + std::to_string(k) + ";";
      text_ += piece;
      steps.push_back(token(piece));
    }
    for (const Step& step : {finish(), usage(3, tokens), done()}) steps.push_back(step);
    pair_.worker.set_script(steps);
  }

  void run() {
    const int actions = 8 + pick(12);
    const int open_at = pick(actions);
    for (int k = 0; k < actions; ++k) {
      if (k == open_at) pair_.worker.open(gate_);
      act();
    }
    pair_.worker.open(gate_);
    join();
    for (One& one : clients_) check(one);
  }

 private:
  struct One {
    std::unique_ptr<Client> client;
    bool stream = false;
  };

  [[nodiscard]] int pick(int below) {
    return static_cast<int>(random_() % static_cast<unsigned>(below));
  }

  void act() {
    if (clients_.empty() || pick(5) < 3) return join();
    const std::size_t at = static_cast<std::size_t>(pick(static_cast<int>(clients_.size())));
    clients_[at].client->close();
    clients_.erase(clients_.begin() + static_cast<std::ptrdiff_t>(at));
  }

  void join() {
    One one;
    one.stream = pick(3) != 0;
    const bool small = pick(4) == 0;  // A kernel buffer that a few frames fill.
    one.client = std::make_unique<Client>(pair_.gateway.api(), small ? 2048 : 0);
    std::string extra = R"(,"seed":)" + std::to_string(seed_);
    if (one.stream) extra += R"(,"stream":true)";
    if (pick(3) == 0) extra += R"(,"mlxs":{"token_ids":true})";
    one.client->post("/v1/chat/completions", chat_body(extra));
    clients_.push_back(std::move(one));
  }

  // Read only now, so everyone has stood still until here.
  void check(One& one) const {
    if (one.stream) {
      ASSERT_EQ(one.client->read_head().status, 200) << "seed " << seed_;
      EXPECT_EQ(read_text(*one.client), text_) << "seed " << seed_;
      EXPECT_TRUE(one.client->complete()) << "seed " << seed_;
      return;
    }
    const Answer answer = one.client->read();
    ASSERT_EQ(answer.status, 200) << "seed " << seed_ << ": " << answer.body;
    EXPECT_EQ(answer.json().at("choices").at(0).at("message").at("content").as_string(), text_)
        << "seed " << seed_;
  }

  NativePair& pair_;
  std::mt19937 random_;
  unsigned seed_;
  std::string gate_;
  std::string text_;
  std::vector<One> clients_;
};

// R-COAL-2
TEST(Schedules, WhoeverStaysGetsTheWholeAnswer) {
  NativePair pair{
      "    sharing: { dedup: { ttl_ms: 20 } }\n"
      "threads: 3\nlimits: { subscribers: 5 }\ntimeouts: { linger_ms: 1 }\n"};

  for (int k = 0; k < schedules() && !testing::Test::HasFailure(); ++k)
    Schedule{pair, static_cast<unsigned>(k)}.run();

  EXPECT_TRUE(pair.gateway.wait_metric("mlx_flight_subscribers", 0));
  EXPECT_TRUE(pair.gateway.wait_metric("mlx_requests_in_flight", 0));
  EXPECT_TRUE(pair.gateway.wait_metric(R"(mlx_pool_connections{state="leased"})", 0));
}

}  // namespace
}  // namespace mlxs::gateway
