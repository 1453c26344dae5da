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
            set_property(GLOBAL APPEND PROPERTY LB_LDFLAGS_${target} ${${prefix}_LDFLAGS})
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
lb_require(lb_dependencies libmicrohttpd-dev libmicrohttpd)
target_link_libraries(lb_dependencies INTERFACE m)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
target_link_libraries(lb_dependencies INTERFACE Threads::Threads)

# For lowbit.pc: what liblowbit.a needs besides. Not Requires.private: that would also ask for what these
# libraries were linked with themselves (-lgfortran), which their packages do not bring.
get_property(LB_PC_LIBS_PRIVATE GLOBAL PROPERTY LB_LDFLAGS_lb_dependencies)
list(REMOVE_DUPLICATES LB_PC_LIBS_PRIVATE)
list(JOIN LB_PC_LIBS_PRIVATE " " LB_PC_LIBS_PRIVATE)
string(APPEND LB_PC_LIBS_PRIVATE " -pthread -lm")
