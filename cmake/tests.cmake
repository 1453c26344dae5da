# SPDX-License-Identifier: MIT
# Every test program, found by its name and place, and how CTest runs it.
#   ctest -L unit      one program per module              tests/unit/test_*.c
#   ctest -L kernels   SIMD against the portable twins     tests/kernels/{check,simde}_*.c
#   ctest -L fuzz      the fuzz targets over saved inputs  tests/fuzz/fuzz_*.c
#   ctest -L cli       the command, from outside           tests/cli/*.sh
#   ctest -L library   what is installed, by programs of its own   tests/library/*.sh
#   ctest -L house     the rules of the source             tools/house.sh

set(tests ${PROJECT_SOURCE_DIR}/tests)

# LB_QUICK_TESTS: only what looks at the command and the library from outside; no test programs to build.
add_library(lb_testing INTERFACE)
if(NOT LB_QUICK_TESTS)
    lb_require(lb_testing libcmocka-dev cmocka)
endif()
target_include_directories(lb_testing INTERFACE ${tests})
target_link_libraries(lb_testing INTERFACE lb_cli lowbit_static lb_dependencies lb_options)

# One program from one file, run from the source folder under the name LABEL/STEM.
function(lb_add_test source label)
    get_filename_component(program ${source} NAME_WE)
    string(REGEX REPLACE "^(test|check)_" "" stem ${program})
    add_executable(${program} ${source})
    target_link_libraries(${program} PRIVATE lb_testing)
    add_test(NAME ${label}/${stem} COMMAND ${program} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${label}/${stem} PROPERTIES LABELS ${label} TIMEOUT 300)
endfunction()

# The programs that match, or none where only quick tests are wanted.
function(lb_find_programs out pattern)
    file(GLOB found CONFIGURE_DEPENDS ${pattern})
    if(LB_QUICK_TESTS)
        set(found)
    endif()
    set(${out} ${found} PARENT_SCOPE)
endfunction()

lb_find_programs(unit_tests ${tests}/unit/test_*.c)
foreach(source IN LISTS unit_tests)
    lb_add_test(${source} unit)
endforeach()

lb_find_programs(kernel_tests ${tests}/kernels/check_*.c)
foreach(source IN LISTS kernel_tests)
    lb_add_test(${source} kernels)
endforeach()

# AVX-512 and NEON code run on any machine through SIMDe's emulation, where that is installed.
find_path(LB_SIMDE_INCLUDE simde/x86/avx512.h)
lb_find_programs(simde_tests ${tests}/kernels/simde_*.c)
if(LB_SIMDE_INCLUDE AND NOT LB_REF_ONLY)
    foreach(source IN LISTS simde_tests)
        lb_add_test(${source} kernels)
        get_filename_component(program ${source} NAME_WE)
        target_include_directories(${program} SYSTEM PRIVATE ${LB_SIMDE_INCLUDE})
        # Emulated registers are passed between functions of one program only; and that clang cannot vectorise a loop that
        # SIMDe asks it to is nobody's fault.
        target_compile_options(${program} PRIVATE -Wno-psabi -Wno-pass-failed)
        # Every emulated instruction is a loop: tracking variables through all of them, or instrumenting them, takes
        # compilers minutes.
        # (And SIMDe adds bytes as C does, which is undefined where they wrap.) A source's options come after its target's.
        set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-O1;-g0;-fno-sanitize=all")
    endforeach()
elseif(simde_tests)
    message(STATUS "No SIMDe (Debian: apt install libsimde-dev): its tests are left out")
endif()

# ---- Fuzz targets: libFuzzer programs, or a replay of the saved inputs ------------------------------
lb_find_programs(fuzz_targets ${tests}/fuzz/fuzz_*.c)
foreach(source IN LISTS fuzz_targets)
    get_filename_component(program ${source} NAME_WE)
    string(REGEX REPLACE "^fuzz_" "" stem ${program})
    set(corpus ${tests}/fuzz/corpus/${stem})
    add_executable(${program} ${source})
    target_link_libraries(${program} PRIVATE lowbit_static lb_dependencies lb_options)
    if(LB_FUZZ)
        target_link_options(${program} PRIVATE -fsanitize=fuzzer)
        set(arguments -runs=0 ${corpus})
    else()
        target_sources(${program} PRIVATE ${tests}/fuzz/replay.c)
        set(arguments ${corpus})
    endif()
    add_test(NAME fuzz/${stem} COMMAND ${program} ${arguments} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(fuzz/${stem} PROPERTIES LABELS fuzz TIMEOUT 300)
endforeach()

# ---- Helpers of the command's tests, found in $LB_BUILD ---------------------------------------------
file(GLOB test_tools CONFIGURE_DEPENDS ${tests}/tools/*.c)
foreach(source IN LISTS test_tools)
    get_filename_component(program ${source} NAME_WE)
    add_executable(${program} ${source})
    target_include_directories(${program} PRIVATE ${tests})
    target_link_libraries(${program} PRIVATE lowbit_static lb_dependencies lb_options)
endforeach()

# ---- The command, and what is installed, from outside -----------------------------------------------
foreach(folder IN ITEMS cli library)
    file(GLOB scripts CONFIGURE_DEPENDS ${tests}/${folder}/*.sh)
    foreach(source IN LISTS scripts)
        get_filename_component(stem ${source} NAME_WE)
        add_test(NAME ${folder}/${stem} COMMAND bash ${source} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
        set_tests_properties(${folder}/${stem} PROPERTIES LABELS ${folder} TIMEOUT 600
            ENVIRONMENT "LOWBIT=$<TARGET_FILE:lowbit>;LB_BUILD=${PROJECT_BINARY_DIR};CC=${CMAKE_C_COMPILER}")
    endforeach()
endforeach()

# ---- The rules of the source; a sanitizer's build has symbols of its own, so those are not looked at ---
set(symbols_of ${PROJECT_BINARY_DIR})
if(LB_SANITIZE OR LB_FUZZ)
    set(symbols_of)
endif()
add_test(NAME house/rules COMMAND bash tools/house.sh ${symbols_of} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
set_tests_properties(house/rules PROPERTIES LABELS house TIMEOUT 300)

# ---- Every public header alone, as C11 and as C++17 -------------------------------------------------
include(CheckLanguage)
check_language(CXX)
if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
endif()
file(GLOB public_headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/lowbit/*.h)
set(c_units)
set(cxx_units)
foreach(header IN LISTS public_headers)
    get_filename_component(stem ${header} NAME_WE)
    foreach(extension c cpp)
        set(unit ${PROJECT_BINARY_DIR}/generated/header_${stem}.${extension})
        file(CONFIGURE OUTPUT ${unit} @ONLY CONTENT
            "#include \"lowbit/${stem}.h\"\nint lb_header_${stem}(void);\nint lb_header_${stem}(void) { return 0; }\n")
    endforeach()
    list(APPEND c_units ${PROJECT_BINARY_DIR}/generated/header_${stem}.c)
    list(APPEND cxx_units ${PROJECT_BINARY_DIR}/generated/header_${stem}.cpp)
endforeach()
add_library(lb_headers_c OBJECT ${c_units})
target_link_libraries(lb_headers_c PRIVATE lb_options)
if(CMAKE_CXX_COMPILER)
    add_library(lb_headers_cxx OBJECT ${cxx_units})
    target_link_libraries(lb_headers_cxx PRIVATE lb_options)
    set_target_properties(lb_headers_cxx PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON
        CXX_EXTENSIONS OFF)
endif()

# ---- Tools that are programs: a model of random weights to measure with -------------------------------
file(GLOB tool_programs CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tools/*.c)
foreach(source IN LISTS tool_programs)
    get_filename_component(program ${source} NAME_WE)
    add_executable(${program} ${source})
    target_link_libraries(${program} PRIVATE lowbit_static lb_dependencies lb_options)
endforeach()

# ---- Benches: programs only, run by hand or by `make bench` -----------------------------------------
lb_find_programs(benches ${PROJECT_SOURCE_DIR}/bench/*.c)
foreach(source IN LISTS benches)
    get_filename_component(program ${source} NAME_WE)
    add_executable(${program} ${source})
    target_include_directories(${program} PRIVATE ${tests})
    target_link_libraries(${program} PRIVATE lowbit_static lb_dependencies lb_options)
endforeach()
