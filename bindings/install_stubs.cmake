# Installs STUB_FILES as slipstick/_core/*.pyi. The generator knew the module as `_core`; in the package it is `slipstick._core`.
foreach(STUB IN LISTS STUB_FILES)
  get_filename_component(NAME ${STUB} NAME)
  file(READ ${STUB} TEXT)
  string(REGEX REPLACE "(from|import) _core" "\\1 slipstick._core" TEXT "${TEXT}")
  file(WRITE ${CMAKE_INSTALL_PREFIX}/slipstick/_core/${NAME} "${TEXT}")
endforeach()
