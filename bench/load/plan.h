#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mlxs::bench {

/// What is asked, in what order: a function of the options alone, so that two servers get the same
/// requests.
struct PlanOptions {
  std::string model = "m";
  bool chat = true;  ///< Chat completions; else completions.
  bool stream = true;
  int prompt_words = 90;   ///< Common English words, a token each in most vocabularies.
  int answer_tokens = 64;  ///< `max_tokens`.
  double duplicates = 0;   ///< Share of requests that repeat an earlier prompt, exactly.
  int repeat_window = 0;   ///< Repeats pick among so many last prompts; 0: among all.
  double temperature = 0;
  std::uint64_t seed = 1;
  bool marked = false;  ///< Prompts begin with a marker that an echoing mock sends back.
  bool mixed = false;   ///< Lengths up to the above; some prompts begin alike, some answers are
                        ///< sampled, have stop strings, or are left by their client.
  std::string extra;    ///< More members of the body, with a leading comma.
};

class Plan {
 public:
  explicit Plan(PlanOptions options);
  /// Which prompt request `index` asks; called with 0, 1, 2, … in order.
  [[nodiscard]] std::uint64_t take(std::uint64_t index);
  [[nodiscard]] std::string body(std::uint64_t prompt) const;
  /// Whether its client leaves after the first text.
  [[nodiscard]] bool is_left(std::uint64_t prompt) const;
  [[nodiscard]] std::string target() const;
  /// "#" and 16 hex digits.
  [[nodiscard]] std::string marker(std::uint64_t prompt) const;
  [[nodiscard]] std::uint64_t distinct() const { return distinct_; }
  [[nodiscard]] const PlanOptions& options() const { return options_; }

 private:
  PlanOptions options_;
  [[nodiscard]] std::uint64_t chance(std::uint64_t prompt, std::uint64_t what) const;
  void append_words(std::string& text, std::uint64_t state, int count) const;
  void append_sampling(std::string& text, std::uint64_t prompt) const;

  std::string before_;  // The body up to the prompt's text.
  std::uint64_t distinct_ = 0;
};

}  // namespace mlxs::bench
