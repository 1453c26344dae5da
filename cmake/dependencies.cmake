# SPDX-License-Identifier: MIT
# The libraries that lowbit stands on, all of them Debian packages, gathered into lb_dependencies.

find_package(PkgConfig)
if(NOT PKG_CONFIG_FOUND)
    message(FATAL_ERROR "pkg-config is missing (Debian: apt install pkg-config)")
endif()

# Finds a pkg-config module (the first of `modules` that is there) or says which package has it.
function(lb_require target package)
    foreach(module IN LISTS ARGN)
        string(MAKE_C_IDENTIFIER "LB_${module}" prefix)
        pkg_check_modules(${prefix} QUIET IMPORTED_TARGET ${module})
        if(${prefix}_FOUND)
            target_link_libraries(${target} INTERFACE PkgConfig::${prefix})
            set_property(GLOBAL APPEND PROPERTY LB_MODULES_${target} ${module})
            return()
        endif()
    endforeach()
    message(FATAL_ERROR "${ARGN} is missing (Debian: apt install ${package}; or run: make setup)")
endfunction()

add_library(lb_dependencies INTERFACE)
lb_require(lb_dependencies liblapacke-dev lapacke)
lb_require(lb_dependencies libopenblas-openmp-dev openblas openblas-openmp openblas-pthread openblas-serial)
lb_require(lb_dependencies libjansson-dev jansson)
lb_require(lb_dependencies libpcre2-dev libpcre2-8)
lb_require(lb_dependencies libutf8proc-dev libutf8proc utf8proc)
target_link_libraries(lb_dependencies INTERFACE m)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
target_link_libraries(lb_dependencies INTERFACE Threads::Threads)

# For lowbit.pc: what a static link needs besides.
get_property(LB_PC_REQUIRES GLOBAL PROPERTY LB_MODULES_lb_dependencies)
list(JOIN LB_PC_REQUIRES " " LB_PC_REQUIRES)
set(LB_PC_LIBS_PRIVATE "-pthread -lm")
