// The version of slipstick, for archives, reports and the Python package.
#pragma once

namespace slipstick {

const char* version();  // as in pyproject.toml: "1.2.3"

}  // namespace slipstick
