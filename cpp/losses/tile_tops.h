// The largest logits of the rows of a tile on CUDA. What one lane of a warp does between two waits of it, as plain functions, so that the host runs them
// too.
//
// A warp owns a row and keeps its list sorted in shared memory: by falling value, equal ones by rising column. That order is total, so what stays does
// not depend on the order in which logits come. Those that beat the last of a full list gather in a buffer, which is merged when it is full: an entry
// goes to the place that is the number of entries that beat it.
#pragma once
#include "losses/tile_rows.h"

namespace slipstick::losses::tile {

constexpr int kMostTops = static_cast<int>(kMaxTopk), kTopsOfLane = kMostTops / kLanes;
constexpr int kGathered = 2 * kLanes;  // merged when fewer than kLanes are free
constexpr int kPacksAtOnce = 4;  // of a lane, on their way together
template <class Real> constexpr int kLogitsAtOnce = kPacksAtOnce * kPack<Real>;

template <class Real> struct Top {
  Real value;
  int64_t column;  // of the vocabulary
};
template <class Real> SLIPSTICK_HOST_DEVICE inline bool beats(const Top<Real>& a, const Top<Real>& b) {
  return a.value > b.value || (a.value == b.value && a.column < b.column);
}

// What a warp shares.
template <class Real> struct Tops {
  Real values[kMostTops], gathered_values[kGathered];
  int64_t columns[kMostTops], gathered_columns[kGathered];
};
template <class Real> SLIPSTICK_HOST_DEVICE inline Top<Real> top_at(const Tops<Real>& tops, int i) {
  return {tops.values[i], tops.columns[i]};
}
template <class Real> SLIPSTICK_HOST_DEVICE inline Top<Real> gathered_at(const Tops<Real>& tops, int i) {
  return {tops.gathered_values[i], tops.gathered_columns[i]};
}

// The lane's logits from a column of the tile on; NaN, which nothing keeps, behind its last column.
template <class Real>
SLIPSTICK_HOST_DEVICE inline void load_some(const Tile<Real>& tile, int64_t row, int64_t begin, int lane, Real (&z)[kLogitsAtOnce<Real>]) {
  const Real scale = scale_of(tile);
  SLIPSTICK_UNROLL
  for (int i = 0; i < kLogitsAtOnce<Real>; i += kPack<Real>) {
    const int64_t column = begin + column_of<Real>(lane, i);
    Real pack[kPack<Real>];
    load_logits(tile, scale, row, column, pack);
    SLIPSTICK_UNROLL
    for (int k = 0; k < kPack<Real>; ++k) z[i + k] = column + k < tile.columns ? pack[k] : static_cast<Real>(NAN);
  }
}

// last: of the list, where that is full.
template <class Real> SLIPSTICK_HOST_DEVICE inline bool may_stay(const Top<Real>& top, bool full, const Top<Real>& last) {
  return top.value == top.value && (!full || beats(top, last));
}

template <class Real> SLIPSTICK_HOST_DEVICE inline void gather(Tops<Real>& tops, int place, const Top<Real>& top) {
  tops.gathered_values[place] = top.value;
  tops.gathered_columns[place] = top.column;
}

// Entries of a lane, and the places they go to.
template <class Real> struct Ranked {
  Top<Real> tops[kTopsOfLane + kGathered / kLanes];
  int places[kTopsOfLane + kGathered / kLanes];
};

// listed, gathered: how many there are.
template <class Real>
SLIPSTICK_HOST_DEVICE inline void rank(const Tops<Real>& tops, int listed, int gathered, int lane, Ranked<Real>& out) {
  SLIPSTICK_UNROLL
  for (int i = 0; i < kTopsOfLane; ++i) {
    const int at = lane + i * kLanes;
    out.places[i] = kMostTops;
    if (at >= listed) continue;
    out.tops[i] = top_at(tops, at);
    out.places[i] = at;
    for (int j = 0; j < gathered; ++j) out.places[i] += beats(gathered_at(tops, j), out.tops[i]);
  }
  SLIPSTICK_UNROLL
  for (int i = 0; i < kGathered / kLanes; ++i) {
    const int at = lane + i * kLanes;
    int& place = out.places[kTopsOfLane + i];
    place = kMostTops;
    if (at >= gathered) continue;
    const Top<Real> top = out.tops[kTopsOfLane + i] = gathered_at(tops, at);
    int low = 0, high = listed;  // of the list, the first `low` beat it
    while (low < high) {
      const int middle = (low + high) / 2;
      if (beats(top_at(tops, middle), top)) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    place = low;
    for (int j = 0; j < gathered; ++j) place += beats(gathered_at(tops, j), top);
  }
}

// count: of the whole list.
template <class Real> SLIPSTICK_HOST_DEVICE inline void place(Tops<Real>& tops, int count, const Ranked<Real>& ranked) {
  SLIPSTICK_UNROLL
  for (int i = 0; i < kTopsOfLane + kGathered / kLanes; ++i) {
    if (ranked.places[i] >= count) continue;
    tops.values[ranked.places[i]] = ranked.tops[i].value;
    tops.columns[ranked.places[i]] = ranked.tops[i].column;
  }
}

// The lane's part of a row's list, from memory and back; entries that are not there have index -1 and the value NaN. Returns how many of the part are there.
template <class Real>
SLIPSTICK_HOST_DEVICE inline int load_tops(const cuda::RowTops& from, int64_t row, bool first, int lane, Tops<Real>& tops) {
  int there = 0;
  for (int64_t i = lane; i < from.count && !first; i += kLanes) {
    tops.values[i] = static_cast<Real>(from.values[row * from.count + i]);
    tops.columns[i] = from.indices[row * from.count + i];
    there += tops.columns[i] >= 0;
  }
  return there;
}
template <class Real>
SLIPSTICK_HOST_DEVICE inline void store_tops(const Tops<Real>& tops, int listed, int64_t row, int lane, const cuda::RowTops& to) {
  for (int64_t i = lane; i < to.count; i += kLanes) {
    to.values[row * to.count + i] = i < listed ? static_cast<double>(tops.values[i]) : static_cast<double>(NAN);
    to.indices[row * to.count + i] = i < listed ? tops.columns[i] : -1;
  }
}

}  // namespace slipstick::losses::tile
