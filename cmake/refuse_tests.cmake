# Read by CPack before it packs.
if(CPACK_SMOE_TESTS)
  message(FATAL_ERROR "packages are made from builds without tests, because tests need fault "
    "injection in the library; configure with -DSMOE_TESTS=OFF")
endif()
