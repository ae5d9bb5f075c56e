#pragma once

#include "api/events.h"

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

namespace mlxs::api {

/// The smallest body that `surface` accepts.
inline boost::json::object minimal(Surface surface) {
  boost::json::object body{{"model", "m"}};
  if (surface == Surface::kChat)
    body["messages"] = boost::json::parse(R"([{"role":"user","content":"hi"}])");
  else
    body["prompt"] = "hi";
  return body;
}

}  // namespace mlxs::api
