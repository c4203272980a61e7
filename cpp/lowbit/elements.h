// Elements of any type as float32 in a block, and back; rounding of such a block. What the entry points of the room share.
#pragma once
#include <functional>

#include "lowbit/kernels.h"

namespace slipstick::lowbit {

constexpr int64_t kBlock = 1024;            // elements at a time: 4 KiB stay in the first-level cache
constexpr int64_t kTaskElements = 1 << 16;  // some 50 us at the speed of memory: worth a thread

// Results larger than this go past the caches: about half of a third-level cache that several processes share.
constexpr int64_t kCachedBytes = int64_t{8} << 20;

// The default environment for floats (to nearest, nothing flushed to zero) while it lives. Workers of parallel_for take it over.
class ExactFloats {
 public:
  ExactFloats();
  ~ExactFloats();
  ExactFloats(const ExactFloats&) = delete;
  ExactFloats& operator=(const ExactFloats&) = delete;

 private:
  alignas(16) unsigned char saved_[64];
};

void check_request(const char* where, const Format& format, const Random& random, Dtype dtype, int64_t count);

// float32 of x[start .. start + count): x itself where it is float32, else the block.
const float* load_block(Dtype dtype, const void* x, int64_t start, int64_t count, float* block);
void store_block(Dtype dtype, const float* block, void* y, int64_t start, int64_t count);

// y may be x. start is the position of x[0] in its array, a multiple of kBlock. Only float formats go past the caches.
void round_block(const Format& format, Rounding rounding, const Random& random, const float* x, float* y, int64_t start, int64_t count,
                 bool past_caches = false);

// Stochastic rounding in a code book by given random numbers, in place; count <= kBlock.
void round_codebook_given(const Format& format, int random_bits, const uint32_t* numbers, float* t, int64_t count);

// Codes of x, as round_block makes the values; returns how many NaN came that the format has no code for, else any number.
int64_t encode_block(const Format& format, Rounding rounding, const Random& random, const float* x, void* codes, int64_t start,
                     int64_t count);

// values of codes.
void decode_block(const Format& format, const void* codes, float* values, int64_t count, bool past_caches = false);

// Calls body(first, end) for every task of the fixed grid over count elements; in the exact environment.
void for_each_task(int64_t count, int threads, const std::function<void(int64_t first, int64_t end)>& body);

}  // namespace slipstick::lowbit
