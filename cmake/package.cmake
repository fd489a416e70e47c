# What `cmake --install` and CPack deliver: the program, one shared library with everything that is
# tested as static ones, its headers, a CMake package (target smoe::smoe) and a pkg-config file. The
# library opens CUDA's libraries at run time, so one package serves machines with and without GPUs.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(smoe_parts smoe_core smoe_kernels smoe_autograd smoe_layers smoe_optim smoe_train)
file(CONFIGURE OUTPUT generated/library.cpp CONTENT "// All code is in the static libraries.\n")
add_library(smoe_library SHARED ${PROJECT_BINARY_DIR}/generated/library.cpp)
add_library(smoe::smoe ALIAS smoe_library)
set_target_properties(smoe_library PROPERTIES
  OUTPUT_NAME smoe EXPORT_NAME smoe
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_compile_features(smoe_library INTERFACE cxx_std_20)
target_link_libraries(smoe_library PRIVATE ${smoe_parts})
foreach(part ${smoe_parts})  # whole, whether or not this library refers to their symbols
  list(APPEND smoe_archives $<TARGET_FILE:${part}>)
endforeach()
target_link_options(smoe_library PRIVATE
  LINKER:--whole-archive ${smoe_archives} LINKER:--no-whole-archive)
set_property(TARGET smoe_library PROPERTY LINK_DEPENDS ${smoe_archives})

# Not the headers of the command line, but for its entry, and of fault injection, which are the
# program's and the tests', nor those that need a backend's own headers.
file(GLOB smoe_private_headers train/commands/*.h train/inject_faults.h train/data/hdf5_*.h
  train/checkpoint/json_shape.h core/system/fault.h core/system/io_calls.h
  core/system/json_reader.h core/distributed/copy/*.h core/distributed/gpu/*.h
  core/distributed/nccl/*.h kernels/cuda/*.h kernels/cuda/experts/forms.h
  kernels/cuda/experts/operand_sides.h)
set(smoe_headers)
foreach(part core kernels autograd layers optim train)
  get_target_property(headers smoe_${part} HEADER_SET)
  list(APPEND smoe_headers ${headers})
endforeach()
list(REMOVE_ITEM smoe_headers ${smoe_private_headers})
list(APPEND smoe_headers ${PROJECT_SOURCE_DIR}/train/commands/program.h)
target_sources(smoe_library INTERFACE
  FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${smoe_headers})
set_target_properties(smoe_library PROPERTIES VERIFY_INTERFACE_HEADER_SETS OFF)

set(smoe_package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/smoe)
install(TARGETS smoe RUNTIME)
install(TARGETS smoe_library EXPORT smoe LIBRARY NAMELINK_COMPONENT smoe
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/smoe)
install(EXPORT smoe NAMESPACE smoe:: DESTINATION ${smoe_package_folder} FILE smoeConfig.cmake)
write_basic_package_version_file(generated/smoeConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
file(RELATIVE_PATH smoe_prefix_from_pc /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/smoe.pc.in generated/smoe.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/generated/smoeConfigVersion.cmake
  DESTINATION ${smoe_package_folder})
install(FILES ${PROJECT_BINARY_DIR}/generated/smoe.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(DIRECTORY configs examples DESTINATION ${CMAKE_INSTALL_DATADIR}/smoe)
install(FILES README.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# `cpack -G DEB` in a build with SMOE_TESTS=OFF: tests put fault injection into the library.
if(PROJECT_IS_TOP_LEVEL)
  set(CPACK_PACKAGE_CONTACT "the smoe authors")
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Trains sparse mixture-of-experts transformers")
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION science)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libnccl2, libcudnn9-cuda-13, libcublas-13-0")
  set(CPACK_STRIP_FILES ON)
  set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/cmake/refuse_tests.cmake)
  set(CPACK_SMOE_TESTS ${SMOE_TESTS})
  include(CPack)
endif()
