#include "hub/transfer.h"

#include "base/version.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <ctime>
#include <curl/curl.h>
#include <exception>
#include <mutex>
#include <utility>

namespace mlxs::hub {
namespace {

constexpr int kRedirectsMax = 10;
constexpr std::uint64_t kYearS = 365ULL * 24 * 3600;

void start_curl() {
  static std::once_flag once;
  std::call_once(once, [] { ::curl_global_init(CURL_GLOBAL_DEFAULT); });
}

struct Headers {
  ::curl_slist* list = nullptr;
  Headers() = default;
  Headers(const Headers&) = delete;
  Headers& operator=(const Headers&) = delete;
  ~Headers() { ::curl_slist_free_all(list); }
  void add(const std::string& line) { list = ::curl_slist_append(list, line.c_str()); }
};

/// Scheme, host and port of `url`; empty if it has none.
std::string origin(const std::string& url) {
  const std::unique_ptr<::CURLU, decltype(&::curl_url_cleanup)> parsed{::curl_url(),
                                                                       ::curl_url_cleanup};
  if (::curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return {};
  std::string text;
  for (const auto part : {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT}) {
    char* value = nullptr;
    if (::curl_url_get(parsed.get(), part, &value, CURLU_DEFAULT_PORT) != CURLUE_OK) return {};
    text += value;
    text += '|';
    ::curl_free(value);
  }
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

/// What is shown of a URL: a signed one carries a secret behind its question mark.
std::string_view shown(std::string_view url) { return url.substr(0, url.find('?')); }

std::string unquoted(std::string_view etag) {
  if (etag.starts_with("W/")) etag.remove_prefix(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"')
    etag = etag.substr(1, etag.size() - 2);
  return std::string{etag};
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Milliseconds waiting(std::uint64_t seconds) {
  return Milliseconds{1000 * static_cast<std::int64_t>(std::min(seconds, kYearS))};
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

std::string_view Reply::header(std::string_view name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string_view{} : found->second;
}

struct Transfer::Impl {
  TransferSettings settings;
  const std::atomic<bool>& cancelled;
  std::string hub;  ///< The endpoint's origin.
  ::CURL* curl = nullptr;
  // Of the request under way:
  Reply reply;
  Receiver* receiver = nullptr;
  std::optional<Error> refused;  ///< By the receiver.
  bool head_given = false;
  bool head_ended = false;  ///< libcurl takes a head that breaks off for a whole one.
  char why[CURL_ERROR_SIZE] = {};

  Impl(TransferSettings settings_in, const std::atomic<bool>& cancelled_in)
      : settings(std::move(settings_in)), cancelled(cancelled_in), hub(origin(settings.endpoint)) {
    start_curl();
    curl = ::curl_easy_init();
  }
  ~Impl() { ::curl_easy_cleanup(curl); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  void take(const Result<void>& result) {
    if (!result) refused = result.error();
  }

  void take_header(std::string_view line) {
    if (line.starts_with("HTTP/")) {  // A new head: of a proxy, of 100 Continue, of the answer.
      reply.headers.clear();
      head_ended = false;
      return;
    }
    if (line == "\r\n" || line == "\n") head_ended = true;
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    std::string name{line.substr(0, colon)};
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    std::string_view value = line.substr(colon + 1);
    const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
    while (!value.empty() && space(value.front())) value.remove_prefix(1);
    while (!value.empty() && space(value.back())) value.remove_suffix(1);
    reply.headers[name] = value;
  }

  /// What the hub says of the file; a header of another host's is none of that.
  void note_hub() {
    if (!reply.from_hub) return;
    const bool final = !is_redirect(reply.status);
    std::string etag = unquoted(reply.header("x-linked-etag"));
    if (etag.empty() && final && reply.linked_etag.empty()) etag = unquoted(reply.header("etag"));
    if (!etag.empty()) reply.linked_etag = std::move(etag);
    if (auto size = number(reply.header("x-linked-size"))) reply.linked_size = size;
    reply.error_code = reply.header("x-error-code");
  }

  void take_head() {
    if (std::exchange(head_given, true)) return;
    long status = 0;
    ::curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    reply.status = static_cast<int>(status);
    note_hub();
    if (reply.status == 200 || reply.status == 206) take(receiver->head(reply));
  }

  /// Exceptions do not pass through C.
  template <class Work>
  bool guarded(const Work& work) {
    try {
      work();
    } catch (const std::exception& error) {
      refused = fail(ErrorCode::kInternal, fmt::format("[hub] {}", error.what()));
    }
    return !refused;
  }

  static std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* self) {
    auto& impl = *static_cast<Impl*>(self);
    return impl.guarded([&] { impl.take_header({bytes, size}); }) ? size : 0;
  }

  static std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* self) {
    auto& impl = *static_cast<Impl*>(self);
    const bool go_on = impl.guarded([&] {
      impl.take_head();
      const bool wanted = impl.reply.status == 200 || impl.reply.status == 206;
      if (wanted && !impl.refused) impl.take(impl.receiver->bytes({bytes, size}));
    });
    return go_on ? size : 0;
  }

  static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Impl*>(self)->cancelled.load(std::memory_order_relaxed) ? 1 : 0;
  }

  void set_up(const Request& request, const std::string& url, Headers& headers) {
    ::curl_easy_reset(curl);  // Open connections stay.
    const auto set = [this](auto option, auto value) { ::curl_easy_setopt(curl, option, value); };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_ERRORBUFFER, why);
    set(CURLOPT_USERAGENT, "mlx-serving/" MLXS_VERSION);
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(settings.connect.count()));
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings.stall.count() / 1000));
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, &on_progress);
    set(CURLOPT_XFERINFODATA, this);
    if (request.head) set(CURLOPT_NOBODY, 1L);
    // Compressed, a body would have neither the file's size nor its ranges.
    headers.add("Accept-Encoding: identity");
    if (request.from > 0) headers.add(fmt::format("Range: bytes={}-", request.from));
    if (request.from > 0 && !request.if_range.empty()) headers.add("If-Range: " + request.if_range);
    if (!settings.token.empty() && origin(url) == hub)
      headers.add("Authorization: Bearer " + settings.token);
    set(CURLOPT_HTTPHEADER, headers.list);
  }

  [[nodiscard]] Error broken(CURLcode code, const std::string& url) const {
    if (cancelled) return fail(ErrorCode::kCancelled, "[hub] stopped");
    const char* const text = why[0] != '\0' ? why : ::curl_easy_strerror(code);
    const bool hopeless = code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
                          code == CURLE_PEER_FAILED_VERIFICATION ||
                          code == CURLE_SSL_CACERT_BADFILE || code == CURLE_TOO_MANY_REDIRECTS;
    return fail(hopeless ? ErrorCode::kIo : ErrorCode::kUnavailable,
                fmt::format("[hub] {}: {}", shown(url), text));
  }

  Result<void> one_hop(const Request& request, const std::string& url) {
    Headers headers;
    set_up(request, url, headers);
    reply.headers.clear();
    reply.from_hub = origin(url) == hub;
    head_given = head_ended = false;
    refused.reset();
    why[0] = '\0';
    const CURLcode code = ::curl_easy_perform(curl);
    if (refused) return *refused;
    if (code != CURLE_OK) return broken(code, url);
    if (!head_ended)
      return fail(ErrorCode::kUnavailable,
                  fmt::format("[hub] {}: the answer broke off in its head", shown(url)));
    guarded([this] { take_head(); });  // A body without a byte.
    if (refused) return *refused;
    return {};
  }

  Result<Reply> get(const Request& request, Receiver& to) {
    receiver = &to;
    reply = {};
    std::string url = request.url;
    for (int hop = 0; hop <= kRedirectsMax; ++hop) {
      MLXS_TRY(one_hop(request, url));
      if (!is_redirect(reply.status)) return reply;
      char* target = nullptr;
      ::curl_easy_getinfo(curl, CURLINFO_REDIRECT_URL, &target);
      if (target == nullptr)
        return fail(ErrorCode::kUnavailable,
                    fmt::format("[hub] {}: a redirect to nowhere", shown(url)));
      std::string next = target;
      if (url.starts_with("https://") && !next.starts_with("https://"))
        return fail(
            ErrorCode::kIo,
            fmt::format("[hub] {}: a redirect to {}, which is not https", shown(url), shown(next)));
      // A signed link is often good for GET only, and the hub has said what there is to know.
      if (request.head && origin(next) != hub) return reply;
      url = std::move(next);
    }
    return fail(ErrorCode::kIo, fmt::format("[hub] {}: too many redirects", shown(request.url)));
  }
};

Transfer::Transfer(TransferSettings settings, const std::atomic<bool>& cancelled)
    : impl_(std::make_unique<Impl>(std::move(settings), cancelled)) {}

Transfer::~Transfer() = default;

Result<Reply> Transfer::get(const Request& request, Receiver& receiver) {
  return impl_->get(request, receiver);
}

std::string url_path(std::string_view path) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || std::string_view{"-._~/"}.find(c) != std::string_view::npos) {
      out += c;
    } else {
      out += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    }
  }
  return out;
}

std::optional<Milliseconds> asked_to_wait(const Reply& reply, std::int64_t now_s) {
  // The draft for rate limits, which the hub follows: "api";r=0;t=55 is nothing left for 55 s.
  const std::string_view limit = reply.header("ratelimit");
  if (const std::size_t reset = limit.find(";t=");
      reply.status == 429 && reset != std::string_view::npos) {
    const std::string_view digits = limit.substr(reset + 3);
    if (const auto seconds = number(digits.substr(0, digits.find_first_of(";,"))))
      return waiting(*seconds);
  }
  const std::string_view value = reply.header("retry-after");
  if (const auto seconds = number(value)) return waiting(*seconds);
  const std::time_t date = ::curl_getdate(std::string{value}.c_str(), nullptr);
  if (date < 0) return std::nullopt;
  return waiting(static_cast<std::uint64_t>(std::max<std::int64_t>(date - now_s, 0)));
}

}  // namespace mlxs::hub
