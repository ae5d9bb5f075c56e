#include "bench/load/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>

namespace mlxs::bench {
namespace {

// Each one token with its leading space in the vocabularies of SmolLM2, Llama and Qwen.
constexpr std::array<std::string_view, 128> kWords = {
    "time",    "year",    "people",   "way",    "day",     "man",     "thing",   "woman",
    "life",    "child",   "world",    "school", "state",   "family",  "student", "group",
    "country", "problem", "hand",     "part",   "place",   "case",    "week",    "company",
    "system",  "program", "question", "work",   "number",  "night",   "point",   "home",
    "water",   "room",    "mother",   "area",   "money",   "story",   "fact",    "month",
    "lot",     "right",   "study",    "book",   "eye",     "job",     "word",    "business",
    "issue",   "side",    "kind",     "head",   "house",   "service", "friend",  "father",
    "power",   "hour",    "game",     "line",   "end",     "member",  "law",     "car",
    "city",    "name",    "team",     "minute", "idea",    "body",    "back",    "parent",
    "face",    "others",  "level",    "office", "door",    "health",  "person",  "art",
    "war",     "history", "party",    "result", "change",  "morning", "reason",  "research",
    "girl",    "guy",     "moment",   "air",    "teacher", "force",   "order",   "food",
    "light",   "sound",   "music",    "paper",  "table",   "river",   "road",    "field",
    "stone",   "tree",    "wind",     "summer", "winter",  "market",  "price",   "value",
    "heart",   "voice",   "window",   "garden", "island",  "king",    "queen",   "ship",
    "train",   "bridge",  "letter",   "color",  "dream",   "space",   "star",    "sun"};

/// splitmix64 (Steele, Lea, Flood 2014).
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

Plan::Plan(PlanOptions options) : options_(std::move(options)) {
  before_ = fmt::format(R"({{"model":"{}",)", options_.model);
  before_ += options_.chat ? R"("messages":[{"role":"user","content":")" : R"("prompt":")";
  after_ = options_.chat ? R"("}])" : R"(")";
  after_ += fmt::format(
      R"(,"max_tokens":{},"temperature":{})", options_.answer_tokens, options_.temperature);
  if (options_.stream) after_ += R"(,"stream":true,"stream_options":{"include_usage":true})";
  after_ += options_.extra + "}";
}

std::uint64_t Plan::take(std::uint64_t index) {
  const double fresh = 1 - options_.duplicates;
  const auto due = [fresh](std::uint64_t n) {
    return static_cast<std::uint64_t>(std::ceil(static_cast<double>(n) * fresh - 1e-9));
  };
  if (distinct_ == 0 || due(index + 1) > due(index)) return distinct_++;
  std::uint64_t choices = distinct_;
  if (options_.repeat_window > 0)
    choices = std::min(choices, static_cast<std::uint64_t>(options_.repeat_window));
  return distinct_ - 1 - mix(mix(options_.seed) ^ index) % choices;
}

std::string Plan::body(std::uint64_t prompt) const {
  std::string text = before_;
  if (options_.marked) text += marker(prompt) + " ";
  std::uint64_t state = mix(options_.seed) ^ mix(prompt + 1);
  for (int i = 0; i < options_.prompt_words; ++i) {
    if (i > 0) text += ' ';
    state = mix(state);
    text += kWords[state % kWords.size()];
  }
  return text + after_;
}

std::string Plan::target() const {
  return options_.chat ? "/v1/chat/completions" : "/v1/completions";
}

std::string Plan::marker(std::uint64_t prompt) const {
  return fmt::format("#{:016x}", mix(options_.seed ^ mix(prompt)));
}

}  // namespace mlxs::bench
