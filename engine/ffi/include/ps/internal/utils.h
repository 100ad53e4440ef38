// What the other headers, and programs that include them, expect to find included.
#ifndef PS_INTERNAL_UTILS_H_
#define PS_INTERNAL_UTILS_H_

#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "dmlc/logging.h"
#include "ps/internal/env.h"

namespace ps {

// The value of a variable of the environment, or `fallback` where there is none.
template <typename V>
inline V GetEnv(const char *key, V fallback) {
    const char *text = Environment::Get()->find(key);
    if (text == nullptr) return fallback;
    std::istringstream in(text);
    V value;
    return in >> value ? value : fallback;
}

}  // namespace ps

#ifndef DISALLOW_COPY_AND_ASSIGN
#define DISALLOW_COPY_AND_ASSIGN(Type) \
    Type(const Type &);                \
    void operator=(const Type &)
#endif

#endif  // PS_INTERNAL_UTILS_H_
