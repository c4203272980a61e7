// The tables of mixing.h, made once at compile time.

#include "logs/mixing.h"

namespace slipstick::logs {

constexpr LogitTables kMadeLogits;
const LogitTables kLogits = kMadeLogits;

}  // namespace slipstick::logs
