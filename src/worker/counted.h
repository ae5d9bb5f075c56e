#pragma once

namespace mlxs::worker {

/// Adds one to `count` while it lives. Loop thread.
class Counted {
 public:
  explicit Counted(int& count) : count_(count) { ++count_; }
  ~Counted() { --count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;

 private:
  int& count_;
};

}  // namespace mlxs::worker
