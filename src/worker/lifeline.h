#pragma once

namespace mlxs::worker {

/// Ends the process at once when the other end of the pipe `descriptor` closes, so that a worker
/// never outlives its supervisor. On a thread of its own, since the event loop may be what hangs.
void exit_with(int descriptor);

}  // namespace mlxs::worker
