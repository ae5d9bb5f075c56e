#include "supervisor/announce.h"

#include "base/version.h"

#include <fmt/format.h>

namespace mlxs::supervisor {
namespace {

double seconds(Milliseconds time) { return static_cast<double>(time.count()) / 1000.0; }

/// What stands before the path in a URL, or the socket's path for `curl --unix-socket`.
std::string curl_target(const std::string& api) {
  constexpr std::string_view kUnix = "unix:";
  if (api.starts_with(kUnix))
    return fmt::format("--unix-socket {} http://localhost", api.substr(kUnix.size()));
  return "http://" + api;
}

std::string url(const std::string& address) {
  return address.starts_with("unix:") ? address : "http://" + address;
}

}  // namespace

std::string ready_text(const Announcement& a) {
  std::string text = fmt::format("mlx-serving {} is ready in {:.2f} s\n  API    {}\n  admin  {}\n",
                                 kVersion,
                                 seconds(a.took),
                                 url(a.api) + (a.api.starts_with("unix:") ? "" : "/v1"),
                                 url(a.admin));
  if (a.model.empty()) return text + "  no model can serve at the moment, see the errors above\n";
  text += fmt::format(
      "\nTry it:\n"
      "  curl {}/v1/chat/completions -H 'content-type: application/json'{} \\\n"
      "    -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", \"content\": \"What is "
      "the "
      "capital of France?\"}}]}}'\n",
      curl_target(a.api),
      a.keys ? " -H \"authorization: Bearer $API_KEY\"" : "",
      a.model);
  if (a.api.starts_with("unix:")) return text;
  text += fmt::format(
      "\nFrom Python (pip install openai):\n"
      "  from openai import OpenAI\n"
      "  client = OpenAI(base_url=\"{}/v1\", api_key={})\n"
      "  answer = client.chat.completions.create(model=\"{}\",\n"
      "      messages=[{{\"role\": \"user\", \"content\": \"What is the capital of France?\"}}])\n"
      "  print(answer.choices[0].message.content)\n",
      url(a.api),
      a.keys ? "os.environ[\"API_KEY\"]" : "\"unused\"",
      a.model);
  return text;
}

std::string progress_line(const std::vector<ModelProgress>& models, Milliseconds elapsed) {
  std::string line;
  std::string_view doing;
  for (const ModelProgress& model : models) {
    if (model.ready || model.failed) continue;
    const std::string_view next = model.pulling ? "pulling " : "loading ";
    line += fmt::format("{}{}{} {:.0f} %",
                        line.empty() ? "" : ", ",
                        next == doing ? "" : next,
                        model.id,
                        100 * model.load_progress);
    doing = next;
  }
  if (!line.empty()) line += fmt::format(", {:.0f} s", seconds(elapsed));
  return line;
}

}  // namespace mlxs::supervisor
