# SPDX-License-Identifier: MIT
# What every target of ours shares, and the few helpers that declare them.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Programs land directly in build/PRESET, so that their paths are short.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()
# Assertions are on in every build; ASSERT is ours and ignores NDEBUG.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")

option(REPLIKV_WERROR "Warnings are errors" ON)
set(REPLIKV_SANITIZE "" CACHE STRING "Sanitizers for all targets, as -fsanitize takes")
option(REPLIKV_FUZZ "Build the libFuzzer targets (clang)" OFF)
option(REPLIKV_COVERAGE "Instrument for gcov" OFF)

find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(replikv_options INTERFACE)
target_include_directories(replikv_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(replikv_options INTERFACE _GNU_SOURCE)
target_compile_options(replikv_options INTERFACE
    -Wall -Wextra -Wswitch-enum -Wshadow -Wstrict-prototypes -Wmissing-prototypes
    -Wpointer-arith -Wvla -Wformat=2
    # clang also warns of casts in the macros of generated headers.
    $<$<C_COMPILER_ID:GNU>:-Wcast-qual>
    -fno-omit-frame-pointer -fno-common)
if(REPLIKV_WERROR)
    target_compile_options(replikv_options INTERFACE -Werror)
endif()
if(REPLIKV_SANITIZE)
    add_compile_options(-fsanitize=${REPLIKV_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${REPLIKV_SANITIZE})
endif()
if(REPLIKV_COVERAGE)
    add_compile_options(--coverage)
    add_link_options(--coverage)
endif()

# replikv_library(NAME SOURCES file... [LIBS lib...])
function(replikv_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC ${ARG_LIBS} PRIVATE replikv_options)
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
endfunction()

# replikv_program(NAME SOURCES file... [LIBS lib...])
function(replikv_program name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE ${ARG_LIBS} replikv_options)
endfunction()

# replikv_test(NAME SOURCES file... [LIBS lib...] [LABELS label...])
# A cmocka program that ctest runs. Label `tsan` puts it in the
# thread-sanitized subset.
function(replikv_test name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;LABELS" ${ARGN})
    replikv_program(${name} SOURCES ${ARG_SOURCES} LIBS ${ARG_LIBS} cmocka)
    set_target_properties(${name} PROPERTIES
        RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 600)
endfunction()
