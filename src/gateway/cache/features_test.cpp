#include "gateway/cache/features.h"

#include <gtest/gtest.h>

namespace mlxs::gateway {
namespace {

TEST(Features, AreOnUntilSwitchedOffForAllOrForOneModel) {
  Features features;
  EXPECT_TRUE(features.enabled(Feature::kDedup, "m"));

  features.set(Feature::kDedup, "m", false);
  features.set(Feature::kDedup, "m", false);
  EXPECT_FALSE(features.enabled(Feature::kDedup, "m"));
  EXPECT_TRUE(features.enabled(Feature::kDedup, "n"));
  EXPECT_TRUE(features.enabled(Feature::kCoalescing, "m"));
  EXPECT_TRUE(features.enabled(Feature::kDedup));

  features.set(Feature::kPromptCache, false);
  EXPECT_FALSE(features.enabled(Feature::kPromptCache, "n"));
  EXPECT_TRUE(features.enabled(Feature::kCoalescing, "n"));
}

TEST(Features, AModelsSwitchOutlivesTheServers) {
  Features features;
  features.set(Feature::kDedup, "m", false);
  features.set(Feature::kDedup, false);

  features.set(Feature::kDedup, true);

  EXPECT_FALSE(features.enabled(Feature::kDedup, "m"));
  EXPECT_TRUE(features.enabled(Feature::kDedup, "n"));
  features.set(Feature::kDedup, "m", true);
  EXPECT_TRUE(features.enabled(Feature::kDedup, "m"));
}

TEST(Features, NamesAreThoseOfTheConfiguration) {
  for (const Feature feature : kFeatures) EXPECT_EQ(feature_named(to_string(feature)), feature);
  EXPECT_EQ(to_string(Feature::kPromptCache), "prompt_cache");
  EXPECT_FALSE(feature_named("batching"));
}

}  // namespace
}  // namespace mlxs::gateway
