// The version of the package, as pyproject.toml states it.
#include "slipstick/version.h"

namespace slipstick {

const char* version() { return SLIPSTICK_VERSION; }

}  // namespace slipstick
