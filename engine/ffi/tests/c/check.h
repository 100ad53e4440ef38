/* What the test programs share: a check that says what failed. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyrange.h"

#define EXPECT(condition)                                                                       \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, kr_last_error()); \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)

/* The call answers this status. */
#define STATUS(expected, call)                                                                      \
    do {                                                                                            \
        kr_status got_ = (call);                                                                    \
        if (got_ != (expected)) {                                                                   \
            fprintf(stderr, "%s:%d: %s: expected %s, got %s: %s\n", __FILE__, __LINE__, #call,      \
                    kr_status_name(expected), kr_status_name(got_), kr_last_error());               \
            exit(1);                                                                                \
        }                                                                                           \
    } while (0)

#define OK(call) STATUS(KR_OK, call)

/* The call answers this status, and its text holds these words. */
#define SAYS(expected, words, call)                                                                      \
    do {                                                                                                 \
        STATUS(expected, call);                                                                          \
        if (strstr(kr_last_error(), words) == NULL) {                                                    \
            fprintf(stderr, "%s:%d: %s: expected \"%s\" in: %s\n", __FILE__, __LINE__, #call, words,     \
                    kr_last_error());                                                                    \
            exit(1);                                                                                     \
        }                                                                                                \
    } while (0)

#endif
