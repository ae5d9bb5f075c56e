#include "cli/chat_client.h"
#include "cli/commands.h"

#include <CLI/CLI.hpp>

#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mlxs::cli {
namespace {

constexpr const char* kHelp =
    "/reset forgets the conversation, /exit or Ctrl-D leaves, Ctrl-C stops an answer.\n";

struct ChatOptions {
  std::string url = "http://127.0.0.1:8080";
  std::string system;
  ChatSettings settings;
};

extern "C" void show_prompt_again(int /*signal*/) {
  // The terminal has thrown the line away already; write is all that a handler may do.
  constexpr std::string_view kAgain = "\n> ";
  [[maybe_unused]] const auto written = ::write(STDOUT_FILENO, kAgain.data(), kAgain.size());
}

/// While the user types: Ctrl-C starts a new line instead of ending the program.
void keep_on_interrupt() {
  struct sigaction action{};
  action.sa_handler = show_prompt_again;
  action.sa_flags = SA_RESTART;
  ::sigaction(SIGINT, &action, nullptr);
}

/// A conversation with a person (stdin is a terminal) or a program (a prompt a line, only answers
/// on stdout).
class Chat {
 public:
  explicit Chat(ChatOptions options)
      : options_(std::move(options)), person_(::isatty(STDIN_FILENO) != 0) {}

  int run() {
    if (const int status = connect(); status != 0) return status;
    reset();
    if (person_) std::printf("%s, at %s\n%s", model().c_str(), options_.url.c_str(), kHelp);
    std::string line;
    while (read_line(line)) {
      if (line == "/exit") break;
      if (line == "/reset") {
        reset();
      } else if (line == "/help") {
        std::fputs(kHelp, stdout);
      } else if (!line.empty()) {
        answer(line);
      }
    }
    return failed_ && !person_ ? 1 : 0;
  }

 private:
  [[nodiscard]] const std::string& model() const { return options_.settings.model; }

  int connect() {
    auto server = ServerUrl::parse(options_.url);
    if (!server) return refuse(server.error());
    options_.settings.server = *std::move(server);
    if (!model().empty()) return 0;
    auto first = first_model(options_.settings);
    if (!first) return refuse(first.error());
    options_.settings.model = *std::move(first);
    return 0;
  }

  [[nodiscard]] int refuse(const Error& error) const {
    std::fprintf(stderr, "mlx-serving: %s: %s\n", options_.url.c_str(), error.message.c_str());
    return 1;
  }

  void reset() {
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  }

  bool read_line(std::string& line) {
    if (person_) {
      keep_on_interrupt();
      std::fputs("> ", stdout);
      std::fflush(stdout);
    }
    if (std::getline(std::cin, line)) {
      if (line.ends_with('\r')) line.pop_back();
      return true;
    }
    if (person_) std::fputs("\n", stdout);
    return false;
  }

  void answer(const std::string& prompt) {
    messages_.push_back({"user", prompt});
    ChatCallbacks callbacks{.text = [this](std::string_view piece) { show(piece); }};
    if (person_) callbacks.waiting = [this](int seconds) { show_waiting(seconds); };
    const ChatAnswer got = ask(options_.settings, messages_, callbacks);
    clear_waiting();
    if (got.interrupted) std::fputs(" [stopped]", stdout);
    if (got.interrupted || !got.text.empty()) std::fputs("\n", stdout);
    std::fflush(stdout);
    if (got.error.message.empty()) {
      messages_.push_back({"assistant", got.text});
      return;
    }
    failed_ = true;
    std::fprintf(stderr, "error: %s\n", got.error.message.c_str());
    messages_.pop_back();  // So that the next prompt is not answered with this one.
  }

  void show(std::string_view piece) {
    clear_waiting();
    std::string text{piece};
    // What a model says must not drive the terminal.
    if (person_)
      std::erase_if(text, [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return (byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f;
      });
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  void show_waiting(int seconds) {
    waiting_shown_ = true;
    std::printf("\r(waiting, %d s)", seconds);
    std::fflush(stdout);
  }

  void clear_waiting() {
    if (std::exchange(waiting_shown_, false)) std::fputs("\r\033[K", stdout);
  }

  ChatOptions options_;
  bool person_;
  bool failed_ = false;
  bool waiting_shown_ = false;
  std::vector<ChatMessage> messages_;
};

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App* const command = app.add_subcommand(
      "chat", "Talk to a model in the terminal, or answer one prompt a line from a pipe");
  command->add_option("--url", options->url, "The server")->type_name("URL")->capture_default_str();
  command->add_option("--model", options->settings.model, "By default the first that is listed")
      ->type_name("ID");
  command->add_option("--system", options->system, "System prompt")->type_name("TEXT");
  command->add_option("--temperature", options->settings.temperature, "0 is deterministic")
      ->type_name("NUMBER");
  command->add_option("--max-tokens", options->settings.tokens_max, "Length of an answer at most")
      ->type_name("NUMBER");
  command->add_option("--key", options->settings.key, "API key")
      ->type_name("KEY")
      ->envname("MLX_SERVING_API_KEY");
  command->footer(kHelp);
  command->callback([options, &action] { action = [options] { return Chat{*options}.run(); }; });
}

}  // namespace mlxs::cli
