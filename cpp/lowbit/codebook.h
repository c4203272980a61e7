// Code books: the cuts of every mode, made exactly from the values. Private to the room.
#pragma once
#include <memory>

#include "lowbit/grid.h"

namespace slipstick::lowbit {

// Throws Error{invalid_argument} naming what is wrong with the values, codes or thresholds.
std::shared_ptr<const Codebook> make_codebook(const CodebookSpec& spec);

// y[i] is the value that mode gives to x[i]; codes likewise. NaN gives NaN, and the code of NaN where there is one. Returns how many NaN came.
int64_t codebook_round(const Codebook& book, Rounding rounding, const uint32_t* random, int random_bits, const float* x, float* y,
                       uint32_t* codes, int64_t count);

}  // namespace slipstick::lowbit
