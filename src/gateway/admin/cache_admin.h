#pragma once

#include "gateway/cache_keeper.h"
#include "gateway/loop_context.h"
#include "gateway/request_scope.h"
#include "http/server.h"

#include <boost/asio/awaitable.hpp>
#include <boost/json/object.hpp>

namespace mlxs::gateway {

/// The part of the admin API that watches and steers sharing. Actions can be repeated without harm
/// and leave an audit line in the log: who, what, how it ended. Control thread.
class CacheAdmin {
 public:
  /// Both outlive it.
  CacheAdmin(Shared& shared, CacheKeeper& keeper) : shared_(shared), keeper_(keeper) {}

  /// GET cache: what is kept, hit, missed and evicted, by layer and model.
  boost::asio::awaitable<void> show(http::Exchange& exchange, RequestScope& scope);
  /// POST cache/flush {"scope":"all"} or {"scope":"tenant"|"model"|"key", "tenant"|…: NAME}. A
  /// request that is admitted after the answer sees nothing older.
  boost::asio::awaitable<void> flush(http::Exchange& exchange, RequestScope& scope);
  /// GET features: the switches, and per model what they and the policies come to.
  boost::asio::awaitable<void> features(http::Exchange& exchange, RequestScope& scope);
  /// PUT features/NAME {"enabled": true|false, "model": ID}; without a model for the whole server.
  boost::asio::awaitable<void> set_feature(http::Exchange& exchange, RequestScope& scope);

 private:
  [[nodiscard]] boost::json::object describe(Feature feature, const Settings& settings) const;

  Shared& shared_;
  CacheKeeper& keeper_;
};

}  // namespace mlxs::gateway
