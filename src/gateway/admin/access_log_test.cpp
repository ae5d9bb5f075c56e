#include "gateway/admin/access_log.h"

#include "gateway/record.h"
#include "gateway/testing/test_gateway.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace mlxs::gateway {
namespace {

namespace json = boost::json;
using namespace script;
using testing::HasSubstr;
using testing::Not;

class AccessLogTest : public testing::Test {
 protected:
  AccessLogTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "accessXXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    path = (folder / "access.log").string();
  }
  ~AccessLogTest() override { std::filesystem::remove_all(folder); }
  std::string text() const {
    std::stringstream out;
    out << std::ifstream{path}.rdbuf();
    return out.str();
  }

  std::filesystem::path folder;
  std::string path;
};

TEST_F(AccessLogTest, HasOneLineARequestWithItsFactsAndNoPromptText) {
  {
    NativePair pair{"log: { access: " + path + " }\n"};
    const Answer answer = pair.gateway.chat(R"(,"stream":true,"user":"SECRET-USER")",
                                            headers_of({{"x-request-id", "id-1"}}));
    ASSERT_EQ(answer.status, 200);
    EXPECT_EQ(get(pair.gateway.api(), "/nowhere").status, 404);
    pair.gateway.drain();
    ASSERT_EQ(pair.gateway.wait_exit(), 0);
  }
  std::istringstream lines{text()};
  std::string first;
  std::string second;
  std::getline(lines, first);
  std::getline(lines, second);

  const json::value entry = json::parse(first);
  EXPECT_EQ(entry.at("request_id"), "id-1");
  EXPECT_EQ(entry.at("method"), "POST");
  EXPECT_EQ(entry.at("path"), "/v1/chat/completions");
  EXPECT_EQ(entry.at("status"), 200);
  EXPECT_EQ(entry.at("model"), "m");
  EXPECT_EQ(entry.at("worker"), "m/0");
  EXPECT_EQ(entry.at("attempts"), 1);
  EXPECT_EQ(entry.at("stream"), true);
  EXPECT_EQ(entry.at("prompt_tokens"), 3);
  EXPECT_EQ(entry.at("completion_tokens"), 2);
  EXPECT_EQ(entry.at("finish"), "stop");
  EXPECT_TRUE(entry.at("ttft_ms").is_number());
  EXPECT_TRUE(entry.at("queue_ms").is_number());
  EXPECT_EQ(json::parse(second).at("error"), "not_found");
  EXPECT_THAT(text(), Not(HasSubstr("SECRET-USER")));
  EXPECT_THAT(text(), Not(HasSubstr("Hello")));
}

TEST_F(AccessLogTest, AClientsBytesCannotBreakALine) {
  RequestRecord record;
  record.path = "/a\"b\\c\n\xff" + std::string(1000, 'x');

  const std::string line = to_json_line(record);

  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_TRUE(json::parse(line).is_object());
  EXPECT_LT(line.size(), 1000U);
}

TEST_F(AccessLogTest, OpensTheFileAgainAfterAReload) {
  boost::asio::io_context io;
  telemetry::Counter dropped;
  AccessLog log{io, 10, dropped};
  ASSERT_TRUE(log.open(path));
  log.write("one\n");
  io.poll();
  std::filesystem::rename(path, path + ".1");

  ASSERT_TRUE(log.open(path));
  log.write("two\n");
  log.flush();

  EXPECT_EQ(text(), "two\n");
}

TEST_F(AccessLogTest, DropsAndCountsWhatItsQueueCannotHold) {
  boost::asio::io_context io;
  telemetry::Counter dropped;
  AccessLog log{io, 3, dropped};
  ASSERT_TRUE(log.open(path));

  for (int i = 0; i < 5; ++i) log.write("line\n");
  log.flush();

  EXPECT_EQ(dropped.value(), 2U);
  EXPECT_EQ(text(), "line\nline\nline\n");
}

TEST_F(AccessLogTest, AFullPipeNeverBlocksTheWriter) {
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  boost::asio::io_context io;
  telemetry::Counter dropped;
  AccessLog log{io, 100'000, dropped};
  ASSERT_TRUE(log.open(path));

  for (int i = 0; i < 20'000; ++i) log.write("a line of twenty ch\n");
  io.run_for(Milliseconds{50});
  std::string all;
  std::array<char, 65536> buffer{};
  const Deadline patience = Deadline::after(TestGateway::kPatience);
  while (all.size() < 400'000 && !patience.passed()) {
    const ssize_t got = ::read(reader, buffer.data(), buffer.size());
    if (got > 0) all.append(buffer.data(), static_cast<std::size_t>(got));
    io.run_for(Milliseconds{1});
  }
  ::close(reader);

  EXPECT_EQ(all.size(), 400'000U);
  EXPECT_EQ(dropped.value(), 0U);
}

TEST_F(AccessLogTest, OffWritesNothing) {
  boost::asio::io_context io;
  telemetry::Counter dropped;
  AccessLog log{io, 3, dropped};

  log.open("off");

  EXPECT_FALSE(log.enabled());
}

}  // namespace
}  // namespace mlxs::gateway
