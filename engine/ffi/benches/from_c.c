/* The C side of from_c.rs: a worker that repeats one kind of push for each line it reads, and prints nanoseconds per push.
 *   from_c ADDRESS CORE          lines: KIND PUSHES VALUES
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "keyrange.h"

enum { WAIT_MS = 60000, WINDOW = 4, VALUES = 1 << 20 };

#define CHECK(call)                                            \
    do {                                                       \
        if ((call) != KR_OK) {                                 \
            fprintf(stderr, "%s: %s\n", #call, kr_last_error()); \
            exit(1);                                           \
        }                                                      \
    } while (0)

static kr_worker *worker;
static kr_table single, dense;
static float *copied, *lent;

static double now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static void push_one(int pushes)
{
    const double row = 1;
    kr_task task;
    while (pushes-- > 0) {
        CHECK(kr_push_one(worker, single, 5, &row, WAIT_MS, &task));
        CHECK(kr_wait(worker, task, WAIT_MS));
    }
}

static void push_range(int pushes)
{
    const double row = 1;
    const void *parts[1];
    kr_select key = {NULL, 5, 5};
    kr_task task;
    parts[0] = &row;
    while (pushes-- > 0) {
        CHECK(kr_push(worker, single, key, parts, 1, 1, NULL, &task));
        CHECK(kr_wait(worker, task, WAIT_MS));
    }
}

/* Arrays of so many values, WINDOW of them under way. */
static void push_dense(const float *array, int pushes, size_t values)
{
    const void *parts[1];
    kr_select range = {NULL, 0, 0};
    kr_task tasks[WINDOW];
    int at;
    parts[0] = array;
    range.last = values - 1;
    for (at = 0; at < pushes + WINDOW; at++) {
        if (at >= WINDOW)
            CHECK(kr_wait(worker, tasks[at % WINDOW], WAIT_MS));
        if (at < pushes)
            CHECK(kr_push(worker, dense, range, parts, 1, values, NULL, &tasks[at % WINDOW]));
    }
}

static void begin(const char *address, int core)
{
    cpu_set_t cores;
    kr_member member;
    kr_table_spec spec;
    void *memory;
    CPU_ZERO(&cores);
    CPU_SET((size_t)core, &cores);
    sched_setaffinity(0, sizeof cores, &cores);
    CHECK(kr_member_init(&member, address));
    member.carrier = "shm";
    CHECK(kr_worker_connect(&member, &worker));
    CHECK(kr_table_spec_init(&spec));
    spec.value_type = KR_F64;
    CHECK(kr_table_create(worker, &spec, WAIT_MS, &single));
    CHECK(kr_table_spec_init(&spec));
    spec.id = 1;
    spec.store = KR_DENSE;
    spec.last_key = VALUES - 1;
    CHECK(kr_table_create(worker, &spec, WAIT_MS, &dense));
    CHECK(kr_alloc(worker, VALUES * sizeof(float), &memory));
    lent = (float *)memory;
    copied = (float *)calloc(VALUES, sizeof(float));
    memset(copied, 0, VALUES * sizeof(float));
}

int main(int argc, char **argv)
{
    char kind[32];
    int pushes;
    size_t values;
    if (argc != 3)
        return 2;
    begin(argv[1], atoi(argv[2]));
    printf("ready\n");
    fflush(stdout);
    while (scanf("%31s %d %zu", kind, &pushes, &values) == 3 && values <= VALUES) {
        const double from = now_ns();
        if (strcmp(kind, "push_one") == 0)
            push_one(pushes);
        else if (strcmp(kind, "push") == 0)
            push_range(pushes);
        else
            push_dense(strcmp(kind, "lent") == 0 ? lent : copied, pushes, values);
        printf("%.1f\n", (now_ns() - from) / pushes);
        fflush(stdout);
    }
    CHECK(kr_worker_finish(worker, WAIT_MS));
    return 0;
}
