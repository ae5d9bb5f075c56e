#include "base/error.h"

#include "base/result.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace mlxs {
namespace {

TEST(ErrorInfo, EveryCodeHasItsRowAndAnHttpErrorStatus) {
  for (int index = 0; index <= static_cast<int>(ErrorCode::kInternal); ++index) {
    const auto code = static_cast<ErrorCode>(index);

    const ErrorInfo& info = error_info(code);

    EXPECT_EQ(info.code, code);
    EXPECT_GE(info.http_status, 400);
    EXPECT_LT(info.http_status, 600);
    EXPECT_FALSE(info.type.empty());
    EXPECT_FALSE(info.label.empty());
  }
}

TEST(ErrorInfo, LabelsAreUniqueSoThatMetricsTellCodesApart) {
  std::set<std::string_view> labels;
  for (int index = 0; index <= static_cast<int>(ErrorCode::kInternal); ++index)
    EXPECT_TRUE(labels.insert(error_info(static_cast<ErrorCode>(index)).label).second);
}

TEST(ErrorInfo, ClientsAreNeverAskedToRetryTheirOwnMistakes) {
  for (int index = 0; index <= static_cast<int>(ErrorCode::kInternal); ++index) {
    const ErrorInfo& info = error_info(static_cast<ErrorCode>(index));
    if (info.http_status == 408 || info.http_status == 429 || info.http_status >= 500) continue;
    EXPECT_FALSE(info.may_retry) << info.label;
  }
}

Result<int> half(int n) {
  if (n % 2 != 0) return fail(ErrorCode::kInvalidRequest, "odd", "n");
  return n / 2;
}

Result<void> both(int a, int b) {
  MLXS_TRY(half(a));
  MLXS_TRY(half(b));
  return {};
}

TEST(Result, TryReturnsTheFirstErrorAndItsParam) {
  EXPECT_TRUE(both(2, 4));
  const auto result = both(2, 3);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().param, "n");
}

TEST(Result, ValueOfAnErrorThrowsItsMessage) {
  try {
    (void)half(3).value();
    FAIL() << "value() of an error must throw";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "odd");
  }
}

}  // namespace
}  // namespace mlxs
