// Errors of the core as Python's, for every extension module.
#pragma once
#include <nanobind/nanobind.h>

#include "slipstick/error.h"

namespace slipstick_bindings {

inline void raise_as(const char* python_class, const char* message) {
  // Imported only here: the exception classes are Python, where users and type checkers read them.
  PyErr_SetString(nanobind::module_::import_("slipstick._errors").attr(python_class).ptr(), message);
}

inline void translate(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const slipstick::Error& error) {
    switch (error.kind()) {
      case slipstick::ErrorKind::invalid_argument: PyErr_SetString(PyExc_ValueError, error.what()); return;
      case slipstick::ErrorKind::corrupt_data: raise_as("CorruptArchiveError", error.what()); return;
      case slipstick::ErrorKind::limit_exceeded: raise_as("LimitExceededError", error.what()); return;
      case slipstick::ErrorKind::unsupported: raise_as("UnsupportedError", error.what()); return;
      case slipstick::ErrorKind::internal: PyErr_SetString(PyExc_RuntimeError, error.what()); return;
    }
  }
}

}  // namespace slipstick_bindings
