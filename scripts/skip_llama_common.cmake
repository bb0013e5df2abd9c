# Read by CMake right after llama.cpp's project(): a plain variable wins over the cache entry that llama-cpp-python
# forces to ON. Its "common" library, a third of all files and the slowest of them, is linked by nothing it installs.
set(LLAMA_BUILD_COMMON OFF)
