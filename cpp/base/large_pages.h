// Memory of large tables on large pages, where the system has them: random look-ups then miss the address cache less, and first touches are fewer.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace slipstick {

constexpr size_t kLargePage = size_t{2} << 20;

// A wish for the whole large pages within these bytes: nothing is lost where it is refused.
void prefer_large_pages(void* memory, size_t bytes);

// Allocates what fills a large page at the beginning of one, the rest at the beginning of a cache line.
template <class T>
struct LargePages {
  using value_type = T;

  LargePages() = default;
  template <class U>
  LargePages(const LargePages<U>&) {}

  T* allocate(size_t count) {
    void* memory = ::operator new(count * sizeof(T), alignment(count));
    prefer_large_pages(memory, count * sizeof(T));
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t count) { ::operator delete(memory, alignment(count)); }

  template <class U>
  bool operator==(const LargePages<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const LargePages<U>&) const {
    return false;
  }

 private:
  static std::align_val_t alignment(size_t count) { return std::align_val_t{count * sizeof(T) < kLargePage ? 64 : kLargePage}; }
};

template <class T>
using LargeTable = std::vector<T, LargePages<T>>;

}  // namespace slipstick
