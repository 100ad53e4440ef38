// Whether something throws dmlc::Error.
#ifndef THROWS_H
#define THROWS_H

#include "dmlc/logging.h"

template <typename F>
bool throws(F f) {
    try {
        f();
    } catch (const dmlc::Error &) {
        return true;
    }
    return false;
}

#endif
