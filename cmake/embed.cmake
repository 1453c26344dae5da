# SPDX-License-Identifier: MIT
# cmake -DINPUT=FILE -DOUTPUT=FILE.c -DSYMBOL=NAME -DHEADER=PATH.h -P embed.cmake
# Turns a file into a C array: const unsigned char NAME[]; const size_t NAME_size.

file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
if(size EQUAL 0)
    message(FATAL_ERROR "${INPUT} is empty")
endif()
# Sixteen bytes a line: cut by lines first, since one regular expression over all bytes is slow.
string(REGEX REPLACE "(................................)" "\\1\n" lines "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," body "${lines}")
get_filename_component(name ${INPUT} NAME)
file(WRITE ${OUTPUT} "/* SPDX-License-Identifier: MIT\n * Generated from ${name} by cmake/embed.cmake. */\n"
    "#include \"${HEADER}\"\n\nconst unsigned char ${SYMBOL}[] = {\n${body}\n};\n"
    "const size_t ${SYMBOL}_size = sizeof ${SYMBOL};\n")
