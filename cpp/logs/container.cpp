// The container's parts as bytes: see container.h.

#include "logs/container.h"

#include "logs/block_index.h"
#include "logs/hash.h"
#include "slipstick/error.h"

namespace slipstick::logs {

void corrupt_archive(const std::string& what) { throw Error(ErrorKind::corrupt_data, "archive: " + what); }

std::string block_header(const BlockHeader& header) {
  std::string fields;
  fields.push_back(static_cast<char>(header.method));
  put_varint(fields, header.raw_bytes);
  put_varint(fields, header.lines << 1 | static_cast<uint64_t>(header.open));
  put_varint(fields, header.payload_bytes);
  put_fixed(fields, header.checksum, 8);
  put_fixed(fields, header.payload_checksum, 4);
  fields += header.index;
  std::string out(1, static_cast<char>(kBlockTag));
  put_varint(out, fields.size());
  out += fields;
  put_fixed(out, hash64(out.data(), out.size()), 4);
  return out;
}

namespace {

BlockHeader read_fields(std::string_view data, size_t tag_at) {
  ByteReader fields(data);
  BlockHeader header;
  uint8_t method = fields.byte();
  if (method >= kMethods)
    throw Error(ErrorKind::unsupported, "archive: block at byte " + std::to_string(tag_at) + " has method " + std::to_string(method) +
                                            "; expected 0 to " + std::to_string(kMethods - 1) + " (a newer slipstick may read it)");
  header.method = static_cast<Method>(method);
  header.raw_bytes = fields.varint();
  uint64_t lines = fields.varint();
  header.lines = lines >> 1;
  header.open = (lines & 1) != 0;
  header.payload_bytes = fields.varint();
  header.checksum = fields.fixed(8);
  header.payload_checksum = static_cast<uint32_t>(fields.fixed(4));
  header.index = data.substr(fields.at());
  read_block_index(header.index);   // refuses what is no record
  return header;
}

}  // namespace

BlockHeader read_block_header(ByteReader& in, std::string_view data, size_t tag_at) {
  auto where = [&] { return "block header at byte " + std::to_string(tag_at); };
  uint64_t size = in.varint();
  if (size > kMaxHeaderFields) corrupt_archive(where() + " is damaged");
  std::string_view fields = in.take(size);
  size_t end = in.at();
  if (in.fixed(4) != (hash64(data.data() + tag_at, end - tag_at) & UINT32_MAX)) corrupt_archive(where() + " is damaged (checksum)");
  BlockHeader header;
  try {
    header = read_fields(fields, tag_at);
  } catch (const ShortInput&) {
    corrupt_archive(where() + " lacks fields");
  }
  // A block that modelling or zstd would make larger is stored.
  if (header.raw_bytes > kMaxBlockBytes || header.payload_bytes > header.raw_bytes || header.lines > header.raw_bytes ||
      (header.open && header.lines == 0))
    corrupt_archive(where() + " has an illegal size");
  return header;
}

Level read_archive_header(std::string_view data, uint64_t offset) {
  if (data.substr(0, kMagic.size()) != kMagic)
    corrupt_archive(offset == 0 ? std::string("the input is not a slipstick archive (its first bytes are not the magic)")
                                : "byte " + std::to_string(offset) + " is past the archive's end but begins no other archive");
  uint8_t version = static_cast<uint8_t>(data[kMagic.size()]);
  if (version != kVersion)
    throw Error(ErrorKind::unsupported, "archive: version is " + std::to_string(version) + "; expected " + std::to_string(kVersion) +
                                            " (a newer slipstick may read it)");
  uint8_t level = static_cast<uint8_t>(data[kMagic.size() + 1]);
  if (level > static_cast<uint8_t>(Level::max)) corrupt_archive("level " + std::to_string(level) + " is unknown");
  return static_cast<Level>(level);
}

void check_payload(const BlockHeader& header, std::string_view payload, uint64_t offset) {
  if ((hash64(payload.data(), payload.size()) & UINT32_MAX) != header.payload_checksum)
    corrupt_archive("block at byte " + std::to_string(offset) + " is damaged (checksum)");
}

void check_raw(const BlockHeader& header, std::string_view raw, uint64_t offset) {
  auto damaged = [&](const std::string& why) { corrupt_archive("block at byte " + std::to_string(offset) + " is damaged (" + why + ")"); };
  if (hash64(raw.data(), raw.size()) != header.checksum) damaged("checksum of the raw bytes");
  const uint64_t lines = count_lines(raw);
  if (lines != header.lines || header.open != (!raw.empty() && raw.back() != '\n'))
    damaged("it has " + std::to_string(lines) + " lines; its header says otherwise");
}

std::string unpack_checked(const BlockHeader& header, std::string_view payload, uint64_t offset, ByteCodec& codec, std::string_view prefix,
                           Account* account) {
  check_payload(header, payload, offset);
  std::string raw = unpack_block(header.method, payload, header.lines, header.raw_bytes, codec, account, prefix);
  check_raw(header, raw, offset);
  return raw;
}

void refuse_first_continued(uint64_t offset) {
  corrupt_archive("block at byte " + std::to_string(offset) + " continues the block before it, but is the first of its archive");
}

bool is_block_header(std::string_view data, size_t at) {
  if (static_cast<uint8_t>(data[at]) != kBlockTag) return false;
  size_t size = 0, fields = at + 1;
  for (int shift = 0;; shift += 7) {
    if (fields == data.size() || shift > 63) return false;
    uint8_t next = static_cast<uint8_t>(data[fields++]);
    if (shift < 14) size |= size_t{next & 127u} << shift;
    if (shift >= 14 && (next & 127) != 0) return false;
    if (next < 128) break;
  }
  if (size > kMaxHeaderFields || data.size() - fields < size + 4) return false;
  return ByteReader(data, fields + size).fixed(4) == (hash64(data.data() + at, fields + size - at) & UINT32_MAX);
}

BlockInfo info_of(const BlockHeader& header, uint64_t archive_bytes) {
  BlockInfo info;
  info.archive_bytes = archive_bytes;
  info.raw_bytes = header.raw_bytes;
  info.lines = header.lines;
  info.open = header.open;
  info.method = method_name(header.method);
  info.continued = header.method == Method::continued;
  return info;
}

void check_footer(ByteReader& in, std::string_view data, size_t tag_at, const std::vector<BlockInfo>& blocks) {
  uint64_t count = in.varint();
  if (count != blocks.size()) corrupt_archive("footer does not agree with the blocks before it");
  bool same = true;
  for (const BlockInfo& block : blocks) {
    uint64_t archive_bytes = in.varint(), raw_bytes = in.varint(), lines = in.varint();
    same = same && archive_bytes == block.archive_bytes && raw_bytes == block.raw_bytes &&
           lines == (block.lines << 1 | static_cast<uint64_t>(block.open));
  }
  size_t end = in.at();
  if (in.fixed(4) != (hash64(data.data() + tag_at, end - tag_at) & UINT32_MAX)) corrupt_archive("footer is damaged (checksum)");
  if (!same) corrupt_archive("footer does not agree with the blocks before it");
  uint64_t size = in.fixed(8);
  if (size != in.at() + kEndMagic.size() - tag_at || in.take(kEndMagic.size()) != kEndMagic) corrupt_archive("trailer is damaged");
}

std::string archive_header(Level level) {
  std::string out(kMagic);
  out.push_back(static_cast<char>(kVersion));
  out.push_back(static_cast<char>(level));
  return out;
}

std::string archive_footer(const std::vector<BlockInfo>& blocks) {
  std::string out(1, static_cast<char>(kFooterTag));
  put_varint(out, blocks.size());
  for (const BlockInfo& block : blocks) {
    put_varint(out, block.archive_bytes);
    put_varint(out, block.raw_bytes);
    put_varint(out, block.lines << 1 | static_cast<uint64_t>(block.open));
  }
  put_fixed(out, hash64(out.data(), out.size()), 4);
  uint64_t size = out.size() + kTrailerBytes;
  put_fixed(out, size, 8);
  out += kEndMagic;
  return out;
}

const std::vector<std::string>& level_names() {
  static const std::vector<std::string> names = {"fast", "default", "max"};
  return names;
}

Level level_of(std::string_view name) {
  for (size_t i = 0; i < level_names().size(); ++i)
    if (level_names()[i] == name) return static_cast<Level>(i);
  throw Error(ErrorKind::invalid_argument, "compress: level is '" + std::string(name) + "'; expected 'fast', 'default' or 'max'");
}

}  // namespace slipstick::logs
