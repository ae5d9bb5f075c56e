#include "worker/lifeline.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <thread>

namespace mlxs::worker {
namespace {

void wait_for_end(int descriptor) {
  char byte = 0;
  while (true) {
    const auto got = ::read(descriptor, &byte, 1);
    if (got > 0) continue;
    if (got < 0 && errno == EINTR) continue;
    ::_exit(0);
  }
}

}  // namespace

void exit_with(int descriptor) {
  // The read below must block, and no child of ours may hold the pipe.
  ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) & ~O_NONBLOCK);
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  std::thread{&wait_for_end, descriptor}.detach();
}

}  // namespace mlxs::worker
