#pragma once

#include "supervisor/fd.h"

#include <boost/json.hpp>

#include <sys/types.h>

#include <filesystem>
#include <list>
#include <string>
#include <vector>

namespace mlxs::supervisor {

/// A puppet of stand_in.cpp, seen from the test; destroying it ends the puppet. Every wait fails
/// the test after a long time.
class Puppet {
 public:
  explicit Puppet(Fd socket);

  /// The next thing that happened to it.
  boost::json::object event();
  /// Skips events until the channel brought a message of `type`, and returns that.
  boost::json::object control(std::string_view type);
  /// Skips worker tables until the first worker has `state`, and returns its row.
  boost::json::object worker_in_state(std::string_view state);
  void command(const std::string& text) const;
  /// Waits until its process has ended; false if it does not.
  bool gone();

  [[nodiscard]] const boost::json::object& hello() const { return hello_; }
  [[nodiscard]] std::string role() const;
  [[nodiscard]] pid_t pid() const;
  [[nodiscard]] std::vector<std::string> arguments() const;

 private:
  bool read_more();

  Fd socket_;
  Fd process_;  ///< Readable once the process has ended.
  std::string input_;
  boost::json::object hello_;
};

/// A real supervisor in a process of its own with puppets for children, in a folder of its own.
class Stage {
 public:
  explicit Stage(const std::string& config);
  ~Stage();

  /// Starts the supervisor.
  void start(const std::vector<std::string>& overrides = {});
  /// The next puppet of that role to appear; those of the other role are kept.
  Puppet next(const std::string& role);
  /// Whether a puppet has appeared that nobody asked for.
  bool somebody_waits();
  /// `text` without listening addresses, which are free ports unless `listen` is given.
  void write_config(const std::string& text, const std::string& listen = "127.0.0.1:0") const;
  void send(int signal) const;
  /// Waits for the supervisor's end; its wait status.
  int wait();
  /// Waits until stdout and stderr hold `words`; everything printed so far.
  std::string output_with(const std::string& words);
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// Entries of the folder in which the supervisor makes its runtime folder.
  [[nodiscard]] std::size_t runtime_folders() const;

 private:
  bool read_output();

  std::filesystem::path folder_;
  Fd listener_;
  Fd output_;
  std::string printed_;
  pid_t pid_ = -1;
  std::list<Puppet> waiting_;
};

/// A TCP connection to "127.0.0.1:PORT"; invalid when refused.
[[nodiscard]] Fd connect_to(const std::string& address);
/// Reads until the peer closes.
[[nodiscard]] std::string read_all(const Fd& connection);

}  // namespace mlxs::supervisor
