// What simd_symbols.cmake must find: an inline function that is emitted although the linker may have another copy of it.
namespace somewhere {
__attribute__((noinline)) inline int a_foreign_inline_function(int x) { return x + 1; }
}  // namespace somewhere
int use_of_the_foreign_function(int x) { return somewhere::a_foreign_inline_function(x); }
