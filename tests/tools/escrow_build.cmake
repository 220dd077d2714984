# Compiler settings and the helpers every folder uses.
#   escrow_layer(name SOURCES a.c b.c LINKS other ...)   one static library per layer; the link list is the layering rule
#   escrow_test(path/of/module [SOURCES extra.c] [LINKS lib ...] [LABEL unit] [TIMEOUT seconds])
#     builds tests/unit/<path>/test_<module>.c and registers it with ctest under its path
#   escrow_ctest(name COMMAND program args ... [LABEL integration] [TIMEOUT seconds])
#     registers any other test: sanitizer options, label, time limit and the hint how to run it alone
#   escrow_fuzz(name LINKS lib ...)                      tests/fuzz/fuzz_<name>.c, inputs in tests/fuzz/corpus/<name>/
#     with -DESCROW_FUZZ=ON a libFuzzer program; without, a test `fuzz/<name>` that runs the corpus once
# tests/README.md shows them in use.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS ON)          # GNU: preadv2, fallocate, getrandom
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
include(GNUInstallDirs)
include(CheckCCompilerFlag)
include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

# --- Warnings -------------------------------------------------------------------------------------------------------
add_compile_definitions(_GNU_SOURCE)
add_compile_options(
    -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes
    -Wundef -Wvla -Wswitch-enum -Wimplicit-fallthrough -Wformat=2 -Wcast-qual -Wwrite-strings -Wnull-dereference
    -fno-omit-frame-pointer -fstack-protector-strong)
if(ESCROW_WERROR)
    add_compile_options(-Werror)
endif()
if(CMAKE_BUILD_TYPE STREQUAL "Debug")
    add_compile_definitions(ESCROW_DCHECK)
endif()

# --- Sanitizers, or hardening: the two do not mix -------------------------------------------------------------------
function(escrow_add_flag_if_known flag)
    string(MAKE_C_IDENTIFIER "ESCROW_HAS${flag}" known)
    check_c_compiler_flag(${flag} ${known})
    if(${known})
        add_compile_options(${flag})
    endif()
endfunction()

if(ESCROW_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "ESCROW_FUZZ needs clang: configure with -DCMAKE_C_COMPILER=clang in a folder of its own")
    endif()
    add_compile_definitions(ESCROW_DCHECK)
    add_compile_options(-O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
    add_link_options(-fsanitize=address,undefined)
elseif(ESCROW_SANITIZE)
    add_compile_definitions(ESCROW_DCHECK)
    add_compile_options(-O1 -fsanitize=${ESCROW_SANITIZE} -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${ESCROW_SANITIZE})
    # gcc 12 sees impossible null paths once the sanitizers have added their branches.
    add_compile_options(-Wno-null-dereference)
else()
    add_link_options(-Wl,-z,relro,-z,now,-z,noexecstack)
    if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug" AND NOT ESCROW_COVERAGE)
        add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -Werror=format-security)
        escrow_add_flag_if_known(-fstack-clash-protection)
        escrow_add_flag_if_known(-fcf-protection=full)            # x86 only
        escrow_add_flag_if_known(-ftrivial-auto-var-init=zero)    # gcc 12; clang 14 does not offer it yet
    endif()
endif()
if(ESCROW_COVERAGE)
    add_compile_options(--coverage -O0)
    add_link_options(--coverage)
endif()
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/core/include)

# --- Libraries: Debian packages, listed in tests/lib/install_packages.sh ---------------------------------------------
find_package(PkgConfig REQUIRED)
pkg_check_modules(UV REQUIRED IMPORTED_TARGET libuv)
pkg_check_modules(PQ REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(MSGPACK REQUIRED IMPORTED_TARGET msgpack)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(SSL REQUIRED IMPORTED_TARGET libssl)
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd)
pkg_check_modules(DEFLATE REQUIRED IMPORTED_TARGET libdeflate)
pkg_check_modules(LZ4 IMPORTED_TARGET liblz4) # these two: when they are there
pkg_check_modules(ZSTD IMPORTED_TARGET libzstd)
find_package(Threads REQUIRED)

# Before every other library: what these open has to be seen by ThreadSanitizer.
if(ESCROW_SANITIZE MATCHES "thread")
    add_library(escrow_tsan_openat STATIC ${CMAKE_SOURCE_DIR}/tests/tools/tsan_openat.c)
    link_libraries($<BUILD_INTERFACE:escrow_tsan_openat>)
endif()

# --- Helpers --------------------------------------------------------------------------------------------------------
function(escrow_layer name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
    add_library(${name} STATIC ${ARG_SOURCES})
    target_link_libraries(${name} PUBLIC ${ARG_LINKS})
endfunction()

# Time limits are for an idle machine and plain code; what watches over it makes it slower.
set(ESCROW_TIMEOUT_FACTOR 2)
if(ESCROW_SANITIZE MATCHES "thread")
    set(ESCROW_TIMEOUT_FACTOR 20)
elseif(ESCROW_SANITIZE OR ESCROW_COVERAGE)
    set(ESCROW_TIMEOUT_FACTOR 5)
endif()

# A report ends the test at once, names the line, and (under ASan) counts a leak as a failure of that test.
set(ESCROW_TEST_ENVIRONMENT
    "ASAN_OPTIONS=detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1"
    "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tools/lsan.supp:print_suppressions=0"
    "UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1"
    "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=${CMAKE_SOURCE_DIR}/tests/tools/tsan.supp")

function(escrow_ctest name)
    cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "COMMAND" ${ARGN})
    if(NOT ARG_LABEL)
        set(ARG_LABEL integration)
    endif()
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 60)
    endif()
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * ${ESCROW_TIMEOUT_FACTOR}")
    add_test(NAME ${name} COMMAND ${CMAKE_SOURCE_DIR}/tests/tools/run_test.sh ${name} ${ARG_COMMAND})
    set_tests_properties(${name} PROPERTIES
        LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT}
        ENVIRONMENT "${ESCROW_TEST_ENVIRONMENT};ESCROW_TEST_BUILD=${CMAKE_BINARY_DIR};CK_TIMEOUT_MULTIPLIER=${ESCROW_TIMEOUT_FACTOR}")
endfunction()

function(escrow_test path)
    cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LINKS" ${ARGN})
    get_filename_component(module ${path} NAME)
    get_filename_component(dir ${path} DIRECTORY)
    string(REPLACE "/" "_" target "test_${path}")
    add_executable(${target} ${CMAKE_SOURCE_DIR}/tests/unit/${dir}/test_${module}.c ${ARG_SOURCES})
    target_link_libraries(${target} PRIVATE ${ARG_LINKS} PkgConfig::CHECK Threads::Threads)
    if(NOT ARG_LABEL)
        set(ARG_LABEL unit)
    endif()
    if(ARG_LABEL STREQUAL "unit")
        set_property(GLOBAL APPEND PROPERTY ESCROW_UNIT_TESTS ${target})
    endif()
    escrow_ctest(${path} COMMAND $<TARGET_FILE:${target}> LABEL ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()

function(escrow_fuzz name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
    set(target fuzz_${name})
    set(corpus ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
    add_executable(${target} ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_${name}.c ${ARG_SOURCES})
    target_link_libraries(${target} PRIVATE ${ARG_LINKS} Threads::Threads)
    if(ESCROW_FUZZ)
        target_link_options(${target} PRIVATE -fsanitize=fuzzer)
        set_property(GLOBAL APPEND PROPERTY ESCROW_FUZZ_TARGETS ${target})
    else()
        target_sources(${target} PRIVATE ${CMAKE_SOURCE_DIR}/tests/tools/fuzz_corpus_main.c)
        escrow_ctest(fuzz/${name} COMMAND $<TARGET_FILE:${target}> ${corpus} LABEL unit)
    endif()
endfunction()
