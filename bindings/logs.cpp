// `slipstick._core.logs`: the compressor, the decompressor and random access. Checks nothing that the core checks;
// releases the interpreter lock around the work, and takes it for each call of the host's zstd. What has state is Exclusive.
#include "slipstick/logs.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <exception>
#include <memory>

#include "base/large_pages.h"
#include "exclusive.h"
#include "slipstick/error.h"

namespace nb = nanobind;
using namespace nb::literals;
namespace logs = slipstick::logs;

namespace {

// A bytes-like object for the length of a call.
class Buffer {
 public:
  explicit Buffer(nb::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::string_view view() const { return {static_cast<const char*>(view_.buf), static_cast<size_t>(view_.len)}; }

 private:
  Py_buffer view_;
};

nb::bytes to_bytes(const std::string& text) {
  PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(text.size()));
  if (!bytes) throw nb::python_error();
  slipstick::prefer_large_pages(PyBytes_AsString(bytes), text.size());   // a block's first touches would take a tenth of its time
  std::memcpy(PyBytes_AsString(bytes), text.data(), text.size());
  return nb::steal<nb::bytes>(bytes);
}

// An error of the host's zstd. The core may keep it and throw it again, which nanobind's own stands only once.
class HostError : public std::exception {
 public:
  explicit HostError(const nb::python_error& error)
      : error_(new nb::object(nb::borrow(error.value())), [](nb::object* value) {
          nb::gil_scoped_acquire acquire;
          delete value;
        }) {}
  const char* what() const noexcept override { return "an error of the host's zstd"; }
  void restore() const { PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error_->ptr())), error_->ptr()); }

 private:
  std::shared_ptr<nb::object> error_;
};

// zstd by the functions of slipstick.logs._codec, imported when a block first needs one. Leaked on purpose: it may outlive the interpreter's
// modules.
class HostCodec : public logs::ByteCodec {
 public:
  static HostCodec& instance() {
    static HostCodec* codec = new HostCodec;
    return *codec;
  }
  std::string compress(std::string_view data, int level) override {
    nb::gil_scoped_acquire acquire;
    return call("compress", data, level);
  }
  std::string decompress(std::string_view data, size_t raw_size) override {
    nb::gil_scoped_acquire acquire;
    return sized(call("decompress", data, raw_size), raw_size);
  }
  std::string compress_below(std::string_view data, std::string_view prefix, int level, size_t limit, size_t uncounted,
                             size_t first) override {
    nb::gil_scoped_acquire acquire;
    return call("compress_below", data, prefix, level, limit, uncounted, first);
  }
  std::string decompress_behind(std::string_view data, std::string_view prefix, size_t raw_size) override {
    nb::gil_scoped_acquire acquire;
    return sized(call("decompress_behind", data, prefix, raw_size), raw_size);
  }

 private:
  static std::string sized(std::string raw, size_t raw_size) {
    if (raw.size() != raw_size)
      throw slipstick::Error(slipstick::ErrorKind::corrupt_data,
                             "block: zstd gave " + std::to_string(raw.size()) + " bytes; expected " + std::to_string(raw_size));
    return raw;
  }
  static nb::object passed(std::string_view data) {
    if (!data.data()) data = "";  // Python wants an address of nothing, too
    nb::object view = nb::steal(PyMemoryView_FromMemory(const_cast<char*>(data.data()), static_cast<Py_ssize_t>(data.size()), PyBUF_READ));
    if (!view.is_valid()) throw nb::python_error();
    return view;
  }
  template <class Number>
  static Number passed(Number number) {
    return number;
  }
  template <class... Arguments>
  static std::string call(const char* function, Arguments... arguments) {
    try {
      nb::object result = nb::module_::import_("slipstick.logs._codec").attr(function)(passed(arguments)...);
      Buffer buffer(result);
      return std::string(buffer.view());
    } catch (const nb::python_error& error) {
      throw HostError(error);
    }
  }
};

class PyArchive {
 public:
  PyArchive(nb::object data, bool recover, int threads)
      : object_(std::move(data)), buffer_(object_), archive_(open(buffer_.view(), recover, threads)) {}
  const logs::Archive& operator*() const { return archive_; }
  const logs::Archive* operator->() const { return &archive_; }

 private:
  static logs::Archive open(std::string_view data, bool recover, int threads) {
    nb::gil_scoped_release release;
    if (recover) return logs::Archive::recovered(data, HostCodec::instance(), threads);
    return logs::Archive(data, HostCodec::instance());
  }
  nb::object object_;
  Buffer buffer_;
  logs::Archive archive_;
};

nb::dict block_dict(const logs::BlockInfo& block) {
  nb::dict out;
  out["raw_bytes"] = block.raw_bytes;
  out["archive_bytes"] = block.archive_bytes;
  out["decoding_memory"] = logs::decoding_memory(block);
  out["offset"] = block.offset;
  out["lines"] = block.lines;
  out["first_line"] = block.first_line;
  out["method"] = block.method;
  out["continued"] = block.continued;
  return out;
}

nb::list template_list(const PyArchive& self) {
  std::vector<logs::TemplateInfo> templates;
  {
    nb::gil_scoped_release release;
    templates = self->contents().templates;
  }
  nb::list out;
  for (const logs::TemplateInfo& each : templates) {
    nb::dict entry;
    entry["text"] = to_bytes(each.text);
    entry["count"] = each.count;
    entry["example"] = to_bytes(each.example);
    out.append(entry);
  }
  return out;
}

nb::tuple column_tuple(const PyArchive& self, const nb::bytes& text) {
  logs::TemplateColumns columns;
  std::string wanted(text.c_str(), text.size());
  {
    nb::gil_scoped_release release;
    columns = self->columns(wanted);
  }
  auto raw = [](const auto& numbers) { return nb::bytes(numbers.data(), numbers.size() * sizeof(numbers[0])); };
  static constexpr const char* kKinds[] = {"text", "number", "decimal", "time"};
  nb::list list;
  for (const logs::TemplateColumns::Column& column : columns.columns)
    list.append(nb::make_tuple(kKinds[column.kind], column.digits, raw(column.numbers), to_bytes(column.bytes), raw(column.ends)));
  return nb::make_tuple(raw(columns.lines), list);
}

nb::dict info_dict(const PyArchive& self) {
  logs::ArchiveContents contents;
  {
    nb::gil_scoped_release release;
    contents = self->contents();
  }
  nb::dict out;
  out["raw_bytes"] = self->raw_bytes();
  out["archive_bytes"] = self->archive_bytes();
  out["lines"] = self->lines();
  out["templates"] = contents.templates.size();
  out["blocks"] = self->block_count();
  size_t continued = 0;
  for (size_t i = 0; i < self->block_count(); ++i) continued += self->block(i).continued;
  out["continued"] = continued;
  out["level"] = logs::level_names()[static_cast<size_t>(self->level())];
  out["version"] = self->version();
  nb::list list;
  for (const logs::StreamInfo& each : contents.streams) {
    nb::dict entry;
    entry["name"] = to_bytes(each.name).attr("decode")("utf-8", "backslashreplace");
    entry["kind"] = each.kind;
    entry["raw_bytes"] = each.raw_bytes;
    entry["archive_bytes"] = each.archive_bytes;
    entry["values"] = each.values;
    list.append(entry);
  }
  out["streams"] = list;
  return out;
}

logs::PatternSyntax syntax_of(const std::string& name) {
  if (name == "basic") return logs::PatternSyntax::basic;
  if (name == "extended") return logs::PatternSyntax::extended;
  if (name == "fixed") return logs::PatternSyntax::fixed;
  throw slipstick::Error(slipstick::ErrorKind::invalid_argument, "grep: syntax is '" + name + "'; expected 'basic', 'extended' or 'fixed'");
}

nb::list line_list(const logs::GrepBatch& batch) {
  nb::list out;
  for (const logs::GrepLine& line : batch.lines)
    out.append(nb::make_tuple(line.number, nb::bytes(batch.text.data() + line.begin, line.end - line.begin), line.selected));
  return out;
}

void bind_grep(nb::module_& module) {
  nb::class_<logs::GrepBatch>(module, "GrepBatch")
      .def_ro("selected", &logs::GrepBatch::selected)
      .def("text", [](const logs::GrepBatch& self) { return to_bytes(self.text); })
      .def("lines", &line_list, nb::sig("def lines(self) -> list[tuple[int, bytes, bool]]"),
           "Tuples: number from 0, bytes, whether the line was selected (or is context).");

  using Grep = Exclusive<logs::Grep>;
  nb::class_<Grep>(module, "Grep")
      .def(
          "__init__",
          [](Grep* self, const PyArchive& archive, const nb::bytes& pattern, const std::string& syntax, bool ignore_case, bool invert,
             bool only_matching, bool count_only, uint64_t before, uint64_t after, uint64_t max_memory, const std::string& since,
             const std::string& until, int threads) {
            logs::GrepQuery query;
            query.pattern = std::string(pattern.c_str(), pattern.size());
            query.syntax = syntax_of(syntax);
            query.ignore_case = ignore_case;
            query.invert = invert;
            query.only_matching = only_matching;
            query.count_only = count_only;
            query.before = before;
            query.after = after;
            query.max_memory = max_memory;
            query.since = since;
            query.until = until;
            new (self) Grep(*archive, query, threads);
          },
          "archive"_a, "pattern"_a, nb::kw_only(), "syntax"_a = "basic", "ignore_case"_a = false, "invert"_a = false,
          "only_matching"_a = false, "count_only"_a = false, "before"_a = 0, "after"_a = 0, "max_memory"_a = 0, "since"_a = "",
          "until"_a = "", "threads"_a = 0, nb::keep_alive<1, 2>())
      .def(
          "next",
          [](Grep& self) -> nb::object {
            logs::GrepBatch batch;
            if (!self.use([&](logs::Grep& grep) { return grep.next(batch); })) return nb::none();
            return nb::cast(std::move(batch));
          },
          nb::sig("def next(self) -> GrepBatch | None"), "The lines of the next few blocks, or None at the end.")
      .def_prop_ro("blocks_decoded", [](Grep& self) { return self.use([](logs::Grep& grep) { return grep.blocks_decoded(); }); });

  using Printer = Exclusive<logs::GrepPrinter>;
  nb::class_<Printer>(module, "GrepPrinter")
      .def(
          "__init__",
          [](Printer* self, bool names, bool numbers, bool groups) {
            new (self) Printer(logs::GrepPrinter::Format{names, numbers, groups});
          },
          nb::kw_only(), "names"_a, "numbers"_a, "groups"_a)
      .def(
          "begin_file",
          [](Printer& self, const nb::bytes& name) {
            const std::string file(name.c_str(), name.size());
            self.use([&](logs::GrepPrinter& printer) { printer.begin_file(file); });
          },
          "name"_a)
      .def(
          "print",
          [](Printer& self, const logs::GrepBatch& batch) {
            return to_bytes(self.use([&](logs::GrepPrinter& printer) { return printer.print(batch); }));
          },
          "batch"_a, "What grep(1) would print of the batch.");
}

}  // namespace

void bind_logs(nb::module_& module) {
  module.doc() = "Log compression. Private: use slipstick.logs.";
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const HostError& error) {
      error.restore();
    }
  });
  module.def("level_names", &logs::level_names, "From the fastest to the smallest.");
  module.attr("BLOCK_BYTES") = logs::kBlockBytes;

  module.def(
      "technique_names", [](const std::string& level) { return logs::technique_names(logs::level_of(level)); }, "level"_a,
      "What benchmarks/logs.py --ablate can switch off.");
  module.def(
      "size_without",
      [](nb::object data, const std::string& level, const std::vector<std::string>& techniques) {
        Buffer buffer(data);
        nb::gil_scoped_release release;
        return logs::size_without(buffer.view(), logs::level_of(level), techniques, HostCodec::instance());
      },
      "data"_a, "level"_a, "techniques"_a, "Bytes of one block packed without these techniques; such a block cannot be read.");

  using Compressor = Exclusive<logs::Compressor>;
  nb::class_<Compressor>(module, "Compressor")
      .def(
          "__init__",
          [](Compressor* self, const std::string& level, int threads) {
            new (self) Compressor(logs::level_of(level), threads, HostCodec::instance());
          },
          "level"_a, "threads"_a = 0)
      .def(
          "write",
          [](Compressor& self, nb::object data) {
            Buffer buffer(data);
            return to_bytes(self.use([&](logs::Compressor& compressor) { return compressor.write(buffer.view()); }));
          },
          "data"_a, "Archive bytes that became ready.")
      .def(
          "finish", [](Compressor& self) { return to_bytes(self.use([](logs::Compressor& compressor) { return compressor.finish(); })); },
          "The rest of the archive.")
      .def_prop_ro("raw_bytes", [](Compressor& self) { return self.use([](logs::Compressor& each) { return each.raw_bytes(); }); })
      .def_prop_ro("archive_bytes", [](Compressor& self) { return self.use([](logs::Compressor& each) { return each.archive_bytes(); }); })
      .def_prop_ro("lines", [](Compressor& self) { return self.use([](logs::Compressor& each) { return each.lines(); }); });

  using Decompressor = Exclusive<logs::Decompressor>;
  nb::class_<Decompressor>(module, "Decompressor")
      .def(
          "__init__",
          [](Decompressor* self, int threads, uint64_t max_memory, uint64_t max_output) {
            new (self) Decompressor(threads, max_memory, max_output, HostCodec::instance());
          },
          "threads"_a = 0, "max_memory"_a = 0, "max_output"_a = 0)
      .def(
          "feed",
          [](Decompressor& self, nb::object data) {
            Buffer buffer(data);
            self.use([&](logs::Decompressor& decompressor) { decompressor.feed(buffer.view()); });
          },
          "data"_a)
      .def(
          "next",
          [](Decompressor& self) -> nb::object {
            std::string out;
            if (!self.use([&](logs::Decompressor& decompressor) { return decompressor.next(out); })) return nb::none();
            return to_bytes(out);
          },
          nb::sig("def next(self) -> bytes | None"), "The next raw bytes, or None when more input is needed.")
      .def(
          "finish", [](Decompressor& self) { self.use([](logs::Decompressor& decompressor) { decompressor.finish(); }); },
          "Raises CorruptArchiveError unless the input was whole.")
      .def_prop_ro("raw_bytes", [](Decompressor& self) { return self.use([](logs::Decompressor& each) { return each.raw_bytes(); }); })
      .def_prop_ro("archive_bytes",
                   [](Decompressor& self) { return self.use([](logs::Decompressor& each) { return each.archive_bytes(); }); });

  module.def(
      "archive_header", [](const std::string& level) { return to_bytes(logs::archive_header(logs::level_of(level))); }, "level"_a,
      "What stands in front of the blocks of an archive.");
  module.def(
      "archive_footer",
      [](const std::vector<std::pair<const PyArchive*, size_t>>& blocks) {
        std::vector<logs::BlockInfo> infos;
        for (const auto& [archive, index] : blocks) infos.push_back((*archive)->block(index));
        return to_bytes(logs::archive_footer(infos));
      },
      "blocks"_a, nb::sig("def archive_footer(blocks: list[tuple[Archive, int]]) -> bytes"),
      "What stands behind these blocks of archives, once their bytes are one behind the other.");

  nb::class_<PyArchive>(module, "Archive")
      .def(nb::init<nb::object, bool, int>(), "data"_a, nb::kw_only(), "recover"_a = false, "threads"_a = 0,
           "recover: the whole blocks of any data, instead of an archive.")
      .def_prop_ro("level", [](const PyArchive& self) { return logs::level_names()[static_cast<size_t>(self->level())]; })
      .def("info", &info_dict, nb::sig("def info(self) -> dict[str, typing.Any]"))
      .def_prop_ro("lines", [](const PyArchive& self) { return self->lines(); })
      .def_prop_ro(
          "orphans", [](const PyArchive& self) { return self->orphans(); },
          "With recover: blocks that are whole but continue one that is not there.")
      .def_prop_ro("block_count", [](const PyArchive& self) { return self->block_count(); })
      .def(
          "block",
          [](const PyArchive& self, size_t index) {
            if (index >= self->block_count()) throw nb::index_error("block: index is past the last block");
            return block_dict(self->block(index));
          },
          "index"_a, nb::sig("def block(self, index: int) -> dict[str, int]"))
      .def(
          "decompress_block",
          [](const PyArchive& self, size_t index) {
            std::string out;
            {
              nb::gil_scoped_release release;
              out = self->decompress_block(index);
            }
            return to_bytes(out);
          },
          "index"_a)
      .def("columns", &column_tuple, "template"_a,
           nb::sig("def columns(self, template: bytes) -> tuple[bytes, list[tuple[str, int, bytes, bytes, bytes]]]"),
           "Bytes of uint64 line numbers; and of each column its kind, digits, int64 numbers, bytes, and uint64 ends in them.")
      .def("templates", &template_list, nb::sig("def templates(self) -> list[dict[str, typing.Any]]"));
  bind_grep(module);
}
