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

constexpr std::uint64_t kBeginnings = 8;  ///< That prompts of a mixed load share,
constexpr int kBeginningWords = 60;       ///< each of so many words.

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

std::uint64_t Plan::chance(std::uint64_t prompt, std::uint64_t what) const {
  return mix(mix(options_.seed + what * 0x2545f4914f6cdd1dULL) ^ mix(prompt + 1));
}

void Plan::append_words(std::string& text, std::uint64_t state, int count) const {
  for (int i = 0; i < count; ++i) {
    if (i > 0) text += ' ';
    state = mix(state);
    text += kWords[state % kWords.size()];
  }
}

std::string Plan::body(std::uint64_t prompt) const {
  std::string text = before_;
  if (options_.marked) text += marker(prompt) + " ";
  int words = options_.prompt_words;
  if (options_.mixed) {
    if (chance(prompt, 1) % 3 == 0) {
      append_words(text, mix(options_.seed + chance(prompt, 2) % kBeginnings), kBeginningWords);
      text += ' ';
    }
    words = 1 + static_cast<int>(chance(prompt, 3) % static_cast<std::uint64_t>(words));
  }
  append_words(text, chance(prompt, 0), words);
  text += options_.chat ? R"("}])" : R"(")";
  append_sampling(text, prompt);
  if (options_.stream) text += R"(,"stream":true,"stream_options":{"include_usage":true})";
  return text + options_.extra + "}";
}

void Plan::append_sampling(std::string& text, std::uint64_t prompt) const {
  int tokens = options_.answer_tokens;
  double temperature = options_.temperature;
  if (options_.mixed) {
    tokens = 1 + static_cast<int>(chance(prompt, 4) % static_cast<std::uint64_t>(tokens));
    if (chance(prompt, 5) % 3 == 0) temperature = 0.8;
    text += fmt::format(R"(,"seed":{})", chance(prompt, 6) % 1000);
    if (chance(prompt, 7) % 6 == 0) text += R"(,"stop":["7","the"])";
  }
  text += fmt::format(R"(,"max_tokens":{},"temperature":{})", tokens, temperature);
}

bool Plan::is_left(std::uint64_t prompt) const {
  return options_.mixed && options_.stream && chance(prompt, 8) % 10 == 0;
}

std::string Plan::target() const {
  return options_.chat ? "/v1/chat/completions" : "/v1/completions";
}

std::string Plan::marker(std::uint64_t prompt) const {
  return fmt::format("#{:016x}", mix(options_.seed ^ mix(prompt)));
}

}  // namespace mlxs::bench
