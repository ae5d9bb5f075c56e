#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mlxs::engine::testing {

/// Writes a GGUF into memory, for tests: metadata, then tensors, then `finish`.
class GgufWriter {
 public:
  explicit GgufWriter(std::uint32_t version = 3) : version_(version) {}

  void add_uint32(std::string_view key, std::uint32_t value) { add(key, 4, value); }
  void add_float32(std::string_view key, float value) { add(key, 6, value); }
  void add_bool(std::string_view key, bool value) { add(key, 7, std::uint8_t{value}); }
  void add_string(std::string_view key, std::string_view value) {
    begin_value(key, 8);
    put_string(values_, value);
  }
  void add_strings(std::string_view key, const std::vector<std::string>& items) {
    begin_value(key, 9);
    put(values_, std::uint32_t{8});
    put(values_, std::uint64_t{items.size()});
    for (const std::string& item : items) put_string(values_, item);
  }
  /// A value of any fixed-size type, by GGUF's number.
  template <class T>
  void add(std::string_view key, std::uint32_t type, T value) {
    begin_value(key, type);
    put(values_, value);
  }
  template <class T>
  void add_array(std::string_view key, std::uint32_t type, const std::vector<T>& items) {
    begin_value(key, 9);
    put(values_, type);
    put(values_, std::uint64_t{items.size()});
    for (const T& item : items) put(values_, item);
  }
  /// `shape` outermost axis first; `type` by GGUF's number.
  void add_tensor(std::string_view name,
                  const std::vector<std::uint64_t>& shape,
                  std::uint32_t type,
                  std::span<const std::byte> data) {
    ++tensor_count_;
    put_string(tensors_, name);
    put(tensors_, static_cast<std::uint32_t>(shape.size()));
    for (auto axis = shape.rbegin(); axis != shape.rend(); ++axis) put(tensors_, *axis);
    put(tensors_, type);
    put(tensors_, std::uint64_t{data_.size()});
    data_.insert(data_.end(), data.begin(), data.end());
    data_.resize((data_.size() + 31) / 32 * 32);
  }
  void add_floats(std::string_view name,
                  const std::vector<std::uint64_t>& shape,
                  const std::vector<float>& values) {
    add_tensor(name, shape, 0, std::as_bytes(std::span(values)));
  }

  [[nodiscard]] std::vector<std::byte> finish() const {
    std::vector<std::byte> file;
    for (const char letter : std::string_view("GGUF")) file.push_back(std::byte(letter));
    put(file, version_);
    put(file, tensor_count_);
    put(file, value_count_);
    file.insert(file.end(), values_.begin(), values_.end());
    file.insert(file.end(), tensors_.begin(), tensors_.end());
    file.resize((file.size() + 31) / 32 * 32);
    file.insert(file.end(), data_.begin(), data_.end());
    return file;
  }

 private:
  template <class T>
  static void put(std::vector<std::byte>& to, T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    to.insert(to.end(), bytes, bytes + sizeof value);
  }
  static void put_string(std::vector<std::byte>& to, std::string_view text) {
    put(to, std::uint64_t{text.size()});
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    to.insert(to.end(), bytes, bytes + text.size());
  }
  void begin_value(std::string_view key, std::uint32_t type) {
    ++value_count_;
    put_string(values_, key);
    put(values_, type);
  }

  std::uint32_t version_;
  std::uint64_t tensor_count_ = 0;
  std::uint64_t value_count_ = 0;
  std::vector<std::byte> values_, tensors_, data_;
};

}  // namespace mlxs::engine::testing
