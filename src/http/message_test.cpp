#include "http/message.h"

#include "http/head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace mlxs::http {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

TEST(Headers, CompareNamesWithoutCase) {
  Headers headers;
  headers.add("Content-Type", "a");
  headers.add("X", "1");

  EXPECT_EQ(headers.get("content-type"), "a");
  EXPECT_EQ(headers.get("y"), std::nullopt);
}

TEST(Headers, SetReplacesEveryFieldOfTheName) {
  Headers headers;
  headers.add("x", "1");
  headers.add("X", "2");

  headers.set("x", "3");

  EXPECT_EQ(headers.fields().size(), 1U);
  EXPECT_EQ(headers.get("X"), "3");
}

TEST(Request, PathEndsAtTheQuery) {
  EXPECT_EQ((Request{.target = "/a/b?c=d"}).path(), "/a/b");
  EXPECT_EQ((Request{.target = "/a/b"}).path(), "/a/b");
}

TEST(ResponseHead, LetsNoValueAddAField) {
  Headers headers;
  headers.add("x-echo", "a\r\nset-cookie: b");

  const std::string head = render_response_head(200, headers, {});

  EXPECT_THAT(head, Not(HasSubstr("\nset-cookie")));
  EXPECT_THAT(head, HasSubstr("x-echo: a  set-cookie: b\r\n"));
}

TEST(ResponseHead, FramesTheMessageItself) {
  Headers headers;
  headers.add("Content-Length", "99");
  headers.add("connection", "keep-alive");
  headers.add("Date", "mine");

  EXPECT_EQ(render_response_head(404, headers, {.keep_alive = false, .content_length = 3}),
            "HTTP/1.1 404 Not Found\r\nDate: mine\r\ncontent-length: 3\r\nconnection: close\r\n"
            "\r\n");
}

TEST(RequestHead, AddsHostAndLength) {
  EXPECT_EQ(render_request_head({.method = "POST", .target = "/x", .body = "abc"}, "h:1"),
            "POST /x HTTP/1.1\r\nhost: h:1\r\ncontent-length: 3\r\n\r\n");
  EXPECT_EQ(render_request_head({}, "h"), "GET / HTTP/1.1\r\nhost: h\r\n\r\n");
}

TEST(HttpDate, HasTheFormOfRfc9110) {
  EXPECT_THAT(std::string{http_date()},
              MatchesRegex("[A-Z][a-z][a-z], [0-9][0-9] [A-Z][a-z][a-z] [0-9]+ "
                           "[0-9][0-9]:[0-9][0-9]:[0-9][0-9] GMT"));
}

}  // namespace
}  // namespace mlxs::http
