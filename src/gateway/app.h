#pragma once

namespace mlxs::gateway {

/// Descriptors that the supervisor hands to its gateway. The gateway owns the control channel;
/// listeners are borrowed (duplicated by the servers, never shut down), so that the next gateway
/// goes on accepting from them.
struct GatewayFds {
  int control = 3;  ///< One end of an AF_UNIX stream socketpair; one JSON object a line.
  int api = 4;      ///< Listening socket of the API.
  int admin = 5;    ///< Listening socket of the admin API.
};

/// Runs the gateway process: waits for the first `config` message, serves, and blocks until it has
/// to exit. Returns the exit status: 0 after a drain that was asked for, 1 when the control channel
/// ended (the supervisor is gone) or its first configuration cannot be used.
/// Control channel, supervisor to gateway: {"type":"config","yaml":…}, {"type":"workers",
/// "workers":[…]}, {"type":"drain"}; gateway to supervisor: {"type":"ready"} once it accepts.
/// The calling thread becomes the control thread.
int run_gateway(const GatewayFds& fds);

}  // namespace mlxs::gateway
