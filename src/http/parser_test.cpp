#include "http/parser.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <string>
#include <vector>

namespace mlxs::http {
namespace {

using State = HeadScanner::State;

State scan(const std::string& bytes) { return HeadScanner{1000, 10, 100}.scan(bytes); }

/// The whole way of a head: scanner, then Beast.
Result<void> read(const std::string& head) {
  if (scan(head) != State::kComplete) return fail(ErrorCode::kInvalidRequest, "scan");
  RequestParser parser;
  return parser.parse_head(head);
}

std::string with(const std::string& fields) {
  return "POST / HTTP/1.1\r\nhost: x\r\n" + fields + "\r\n";
}

TEST(HeadScanner, FindsTheEndInAnyPieces) {
  const std::string head = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
  HeadScanner scanner{1000, 10, 100};

  for (std::size_t i = 0; i < head.size(); ++i) {
    ASSERT_EQ(scanner.scan(head.substr(0, i)), State::kMore) << i;
  }

  EXPECT_EQ(scanner.scan(head + "rest"), State::kComplete);
  EXPECT_EQ(scanner.head_bytes(), head.size());
}

TEST(HeadScanner, RefusesBareLineFeedsAtOnce) {  // R: "reject CL+TE and bare LF"
  EXPECT_EQ(scan("GET / HTTP/1.1\n"), State::kMalformed);
  EXPECT_EQ(scan("GET / HTTP/1.1\r\nhost: x\n"), State::kMalformed);
  EXPECT_EQ(scan("GET / HTTP/1.1\r\nhost: x\r\n\n"), State::kMalformed);
  EXPECT_EQ(scan("GET / HTTP/1.1\r\nhost: x\ry: z\r\n"), State::kMalformed);
}

TEST(HeadScanner, RefusesFoldedLines) {
  EXPECT_EQ(scan("GET / HTTP/1.1\r\na: b\r\n c\r\n"), State::kMalformed);
  EXPECT_EQ(scan("GET / HTTP/1.1\r\n a: b\r\n"), State::kMalformed);
}

TEST(HeadScanner, RefusesNoiseAtItsFirstByte) {
  EXPECT_EQ(scan("\x16\x03\x01"), State::kMalformed);
  EXPECT_EQ(scan("{"), State::kMalformed);
}

TEST(HeadScanner, BoundsBytesFieldsAndTarget) {
  std::string fields;
  for (int i = 0; i < 10; ++i) fields += "a: b\r\n";
  EXPECT_EQ(scan("GET / HTTP/1.1\r\n" + fields + "\r\n"), State::kComplete);
  EXPECT_EQ(scan("GET / HTTP/1.1\r\n" + fields + "a: b\r\n"), State::kTooManyFields);

  const std::string longest(100, 'x');
  EXPECT_EQ(scan("GET " + longest + " HTTP/1.1\r\n\r\n"), State::kComplete);
  EXPECT_EQ(scan("GET " + longest + "x HTTP/1.1\r\n\r\n"), State::kTargetTooLong);
  EXPECT_EQ(scan("GET " + longest + longest), State::kTargetTooLong);

  const std::string start = "GET / HTTP/1.1\r\na: ";
  const std::string fill(1000 - start.size() - 4, 'x');
  EXPECT_EQ(scan(start + fill + "\r\n\r\n"), State::kComplete);
  EXPECT_EQ(scan(start + fill + "x\r\n\r\n"), State::kTooLong);
  EXPECT_EQ(scan(start + std::string(2000, 'x')), State::kTooLong);
}

TEST(RequestParser, ReadsTheParts) {
  RequestParser parser;

  ASSERT_TRUE(parser.parse_head("PUT /a?b HTTP/1.1\r\nHost: x\r\nX-Y:  z \r\n\r\n"));

  EXPECT_EQ(parser.method(), "PUT");
  EXPECT_EQ(parser.target(), "/a?b");
  EXPECT_EQ(parser.headers().get("x-y"), "z");
  EXPECT_EQ(parser.framing(), Framing::kNone);
  EXPECT_TRUE(parser.keep_alive());
}

TEST(RequestParser, TakesWhatIsWellFramed) {
  EXPECT_TRUE(read(with("")));
  EXPECT_TRUE(read(with("content-length: 5\r\n")));
  EXPECT_TRUE(read(with("content-length: 5\r\ncontent-length: 5\r\n")));
  EXPECT_TRUE(read(with("transfer-encoding: chunked\r\n")));
  EXPECT_TRUE(read(with("Transfer-Encoding: Chunked\r\n")));
  EXPECT_TRUE(read("GET / HTTP/1.0\r\n\r\n"));
  EXPECT_TRUE(read("OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n"));
}

// What two HTTP implementations in a row might read differently.
TEST(RequestParser, RefusesWhatCouldSmuggleARequest) {
  for (const char* fields : {
           "content-length: 5\r\ntransfer-encoding: chunked\r\n",
           "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
           "content-length: 5\r\ncontent-length: 6\r\n",
           "content-length: 5, 6\r\n",
           "content-length: -5\r\n",
           "content-length: +5\r\n",
           "content-length: 0x5\r\n",
           "content-length: 5 5\r\n",
           "content-length: \r\n",
           "content-length: 99999999999999999999999\r\n",
           "transfer-encoding: gzip\r\n",
           "transfer-encoding: identity\r\n",
           "transfer-encoding: chunked, gzip\r\n",
           "transfer-encoding: gzip, chunked\r\n",
           "transfer-encoding: xchunked\r\n",
           "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
           "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
           "transfer-encoding:\vchunked\r\n",
           "content-length : 5\r\n",
           "content-length\t: 5\r\n",
           "host: y\r\n",
           ": empty\r\n",
           "no colon\r\n",
           "b\x01"
           "ad: x\r\n",
           "bad: x\x01y\r\n",
           "b@d: x\r\n",
       }) {
    EXPECT_FALSE(read(with(fields))) << fields;
  }
  EXPECT_FALSE(read(with(std::string("a: b\0c\r\n", 8))));
  EXPECT_FALSE(read("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n"));
}

TEST(RequestParser, RefusesBadRequestLines) {
  for (const char* line : {"GET / HTTP/1.2",
                           "GET / HTTP/2.0",
                           "GET / HTTP/0.9",
                           "GET / http/1.1",
                           "GET /",
                           "GET  / HTTP/1.1",
                           "GET / HTTP/1.1 ",
                           "GET /a b HTTP/1.1",
                           "GET /\x01 HTTP/1.1",
                           "G@T / HTTP/1.1"}) {
    EXPECT_FALSE(read(line + std::string("\r\nhost: x\r\n\r\n"))) << line;
  }
  EXPECT_FALSE(read("GET / HTTP/1.1\r\n\r\n")) << "no host";
}

TEST(RequestParser, ReadsChunksInAnyPiecesAndDropsTrailers) {
  const std::string body = "5;ext=\"a\"\r\nhello\r\n6\r\n world\r\n0\r\nhost: evil\r\n\r\n";
  const bool holds = rc::check([&] {
    RequestParser parser;
    RC_ASSERT(parser.parse_head(with("transfer-encoding: chunked\r\n")).has_value());
    std::string left = body + "GET";
    std::string buffer;
    while (!parser.is_done()) {
      const auto piece = static_cast<std::size_t>(*rc::gen::inRange(1, 9));
      buffer += left.substr(0, piece);
      left.erase(0, piece);
      const auto used = parser.parse_chunked(buffer, 100);
      RC_ASSERT(used.has_value());
      buffer.erase(0, *used);
    }

    RC_ASSERT(parser.body() == "hello world");
    RC_ASSERT(parser.headers().get("host") == "x");
    RC_ASSERT(buffer + left == "GET");
  });
  EXPECT_TRUE(holds);
}

TEST(RequestParser, RefusesMalformedChunks) {
  for (const char* body : {"x\r\n",
                           "-1\r\n",
                           "5\nhello\r\n",
                           "5\r\nhelloXX\r\n",
                           " 5\r\nhello\r\n",
                           "5 5\r\nhello\r\n",
                           "fffffffffffffffff\r\n",
                           "0\r\nbad trailer\r\n\r\n"}) {
    RequestParser parser;
    ASSERT_TRUE(parser.parse_head(with("transfer-encoding: chunked\r\n")));

    EXPECT_FALSE(parser.parse_chunked(body, 100)) << body;
  }
}

TEST(RequestParser, RefusesAChunkedBodyOverItsBoundBeforeItComes) {
  RequestParser parser;
  ASSERT_TRUE(parser.parse_head(with("transfer-encoding: chunked\r\n")));

  EXPECT_TRUE(parser.parse_chunked("a\r\n0123456789\r\n", 100));
  const auto refused = parser.parse_chunked("\r\n5b\r\n", 100);

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kPayloadTooLarge);
}

TEST(RequestParser, SurvivesMutatedHeadsAndBodies) {
  const std::string seed =
      "POST /v1/chat?x=%20 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
      "content-type: application/json\r\n\r\n5;a=b\r\nhello\r\n0\r\nt: u\r\n\r\n";
  std::uint64_t state = 7;
  const auto random = [&](std::size_t below) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::size_t>(state >> 33) % below;
  };
  std::size_t accepted = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string bytes = seed;
    for (std::size_t n = random(4); n > 0; --n) {
      const std::size_t at = random(bytes.size());
      switch (random(4)) {
        case 0:
          bytes[at] = static_cast<char>(random(256));
          break;
        case 1:
          bytes.insert(at, 1, "\r\n :;\t0"[random(7)]);
          break;
        case 2:
          bytes.erase(at, 1 + random(8));
          break;
        default:
          bytes.insert(at, bytes.substr(random(bytes.size()), random(40)));
      }
    }
    HeadScanner scanner{1000, 10, 100};
    if (scanner.scan(bytes) != State::kComplete) continue;
    RequestParser parser;
    if (!parser.parse_head(std::string_view{bytes}.substr(0, scanner.head_bytes()))) continue;
    bytes.erase(0, scanner.head_bytes());
    if (parser.framing() != Framing::kChunked) continue;
    const auto used = parser.parse_chunked(bytes, 1000);
    if (used && parser.is_done()) ++accepted;
  }
  EXPECT_GT(accepted, 1000U) << "the mutations leave nothing valid to go deep with";
}

}  // namespace
}  // namespace mlxs::http
