# SPDX-License-Identifier: MIT
# cmake -DLOWBIT=command -DOUTPUT=FOLDER -P reference.cmake
# Manual pages and shell completion, from the tables that parse the command line.
# (What libraries hold until exit is no leak of ours: a build with sanitizers must not fail here.)
set(ENV{ASAN_OPTIONS} detect_leaks=0)
function(write_reference file)
    execute_process(COMMAND ${LOWBIT} reference ${ARGN} OUTPUT_FILE ${OUTPUT}/${file} RESULT_VARIABLE status)
    if(NOT status EQUAL 0)
        message(FATAL_ERROR "lowbit reference ${ARGN} failed: ${status}")
    endif()
endfunction()

file(REMOVE_RECURSE ${OUTPUT})
file(MAKE_DIRECTORY ${OUTPUT}/man ${OUTPUT}/bash ${OUTPUT}/zsh ${OUTPUT}/fish)
execute_process(COMMAND ${LOWBIT} reference commands OUTPUT_VARIABLE commands COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[a-z]+" commands "${commands}")
write_reference(man/lowbit.1 man lowbit)
foreach(command IN LISTS commands)
    write_reference(man/lowbit-${command}.1 man ${command})
endforeach()
write_reference(bash/lowbit bash)
write_reference(zsh/_lowbit zsh)
write_reference(fish/lowbit.fish fish)
