# SPDX-License-Identifier: MIT
# What `cmake --install` puts where: command, libraries, headers, what pkg-config and CMake need to find them, manuals.
# Both finders work from where they lie, so that --prefix may choose any place.
include(CMakePackageConfigHelpers)

file(RELATIVE_PATH LB_PC_UP /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" LB_PC_UP "${LB_PC_UP}")
# A program that links the archive alone gets what that needs without asking for --static.
set(LB_PC_LIBS "-L\${libdir} -llowbit")
if(NOT LB_SHARED)
    string(APPEND LB_PC_LIBS " ${LB_PC_LIBS_PRIVATE}")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/lowbit.pc.in lowbit.pc @ONLY)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/lowbit)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/lowbitConfig.cmake.in lowbitConfig.cmake
    INSTALL_DESTINATION ${package} PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
# Before 1.0 a minor version may break.
write_basic_package_version_file(lowbitConfigVersion.cmake VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)

install(TARGETS lowbit RUNTIME COMPONENT command)
if(LB_SHARED)
    install(TARGETS lowbit_shared EXPORT lowbit LIBRARY COMPONENT runtime NAMELINK_COMPONENT development)
    install(EXPORT lowbit FILE lowbitTargets.cmake NAMESPACE lowbit:: DESTINATION ${package} COMPONENT development)
endif()
# Wheels hold no links: bindings/python carries the library under its SONAME.
if(LB_PYTHON)
    install(PROGRAMS $<TARGET_FILE:lowbit_shared> DESTINATION . COMPONENT python
        RENAME liblowbit.so.${PROJECT_VERSION_MAJOR})
endif()
if(LB_STATIC)
    install(TARGETS lowbit_static ARCHIVE COMPONENT development)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lowbit DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development
    FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_BINARY_DIR}/lowbit.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/lowbitConfig.cmake ${PROJECT_BINARY_DIR}/lowbitConfigVersion.cmake
    DESTINATION ${package} COMPONENT development)
install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md ${PROJECT_SOURCE_DIR}/LICENSE
    DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT command)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT command
    FILES_MATCHING PATTERN "*.md")
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT development)

# ---- Manuals and completion: printed by the command itself, which a cross build cannot run ---------------
if(NOT CMAKE_CROSSCOMPILING OR CMAKE_CROSSCOMPILING_EMULATOR)
    set(reference ${PROJECT_BINARY_DIR}/reference)
    add_custom_command(OUTPUT ${reference}/man/lowbit.1
        COMMAND ${CMAKE_COMMAND} "-DLOWBIT=${CMAKE_CROSSCOMPILING_EMULATOR};$<TARGET_FILE:lowbit>" -DOUTPUT=${reference}
                -P ${PROJECT_SOURCE_DIR}/cmake/reference.cmake
        DEPENDS lowbit ${PROJECT_SOURCE_DIR}/cmake/reference.cmake VERBATIM
        COMMENT "Manual pages and shell completion")
    add_custom_target(lb_reference ALL DEPENDS ${reference}/man/lowbit.1)
    if(LB_PYTHON) # whose build makes the shared library alone
        set_target_properties(lb_reference PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
    install(DIRECTORY ${reference}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT command OPTIONAL)
    install(DIRECTORY ${reference}/bash/ DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT command OPTIONAL)
    install(DIRECTORY ${reference}/zsh/ DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions COMPONENT command OPTIONAL)
    install(DIRECTORY ${reference}/fish/ DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT command OPTIONAL)
endif()
