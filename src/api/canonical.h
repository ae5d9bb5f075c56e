#pragma once

#include "api/events.h"

#include <boost/json/object.hpp>

#include <string>

namespace mlxs::api {

/// Appends to `out` the canonical form of a request's body: JSON text, equal for two requests
/// exactly when nothing in them can make their answers differ. Every field counts, undocumented
/// ones too, but for those that the table in schema.h calls cosmetic. Key order does not count in
/// the body itself and in message objects; below those it does, since a template may show it.
///
/// `native`: the body passed `parse_native`. Null and a documented default are then as good as
/// absent, numbers outside the template compare by value, and the two names of the length bound are
/// one. For a foreign server, whose reading is not ours to know, only cosmetic fields and key order
/// are taken out.
///
/// Made from the parsed body, from which the upstream body is made, too: a spelling that parsing
/// loses ("1.0" and "1.00", "\u0041" and "A") cannot reach a worker. 1 and 1.0 do stay apart.
/// Never fails, whatever the types are.
void append_canonical(std::string& out,
                      Surface surface,
                      const boost::json::object& body,
                      bool native);

}  // namespace mlxs::api
