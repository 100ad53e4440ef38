/* Filters of the caller's own, for the programs that try them. */
#ifndef FILTERS_H
#define FILTERS_H

#include "check.h"

enum { LIMIT_MS = 30000, KEYS = 200 };

/* States made less states freed. */
static int states;

static float *floats_of(const kr_rows *rows, uint32_t part) { return (float *)rows->parts[part]; }

/* No value above the parameter. */
static void *make_clip(void *context, const char *parameter, kr_reply *reply)
{
    char *end;
    double limit = strtod(parameter, &end), *state;
    EXPECT(context == &states);
    if (end == parameter || *end != '\0') {
        OK(kr_reply_write(reply, "expected a number", 17));
        return NULL;
    }
    state = (double *)malloc(sizeof *state);
    *state = limit;
    __atomic_add_fetch(&states, 1, __ATOMIC_SEQ_CST);
    return state;
}

static void free_clip(void *context, void *state)
{
    EXPECT(context == &states);
    __atomic_sub_fetch(&states, 1, __ATOMIC_SEQ_CST);
    free(state);
}

static int32_t clip(void *context, void *state, const kr_rows *rows, kr_reply *reply)
{
    double limit = *(double *)state;
    size_t at, values = rows->rows * rows->width;
    uint32_t part;
    (void)reply;
    EXPECT(context == &states && rows->size == sizeof *rows && rows->parts_count > 0);
    for (part = 0; part < rows->parts_count; part++)
        for (at = 0; at < values; at++)
            if (rows->value_type == KR_F64)
                ((double *)rows->parts[part])[at] = limit < ((double *)rows->parts[part])[at] ? limit : ((double *)rows->parts[part])[at];
            else
                floats_of(rows, part)[at] = limit < floats_of(rows, part)[at] ? (float)limit : floats_of(rows, part)[at];
    return 0;
}

/* Leaves out rows of odd keys; where keys are not known, odd rows. */
static int32_t even(void *context, void *state, const kr_rows *rows, kr_reply *reply)
{
    size_t row;
    (void)reply;
    EXPECT(context == &states && state == NULL && rows->width > 0);
    for (row = 0; row < rows->rows; row++)
        if ((rows->keys != NULL ? rows->keys[row] : row) % 2 == 1)
            rows->present[row] = 0;
    return 0;
}

/* Works on float only, and refuses a 13. */
static int32_t moody(void *context, void *state, const kr_rows *rows, kr_reply *reply)
{
    size_t at;
    (void)context, (void)state;
    EXPECT(rows->value_type == KR_F32);
    for (at = 0; at < rows->rows * rows->width; at++) {
        if (floats_of(rows, 0)[at] == 13) {
            OK(kr_reply_write(reply, "13 brings bad luck", 18));
            return 7;
        }
    }
    return 0;
}

static kr_filter filter(const char *name, kr_filter_rows rows)
{
    kr_filter made;
    memset(&made, 0, sizeof made);
    made.size = sizeof made;
    made.name = name;
    made.rows = rows;
    made.context = &states;
    return made;
}

static kr_functions *own_functions(void)
{
    kr_functions *functions;
    kr_filter made = filter("clip", clip);
    OK(kr_functions_new(&functions));
    made.create = make_clip;
    made.destroy = free_clip;
    OK(kr_functions_add_filter(functions, &made));
    made = filter("even", even);
    OK(kr_functions_add_filter(functions, &made));
    made = filter("moody", moody);
    made.value_type = KR_F32;
    OK(kr_functions_add_filter(functions, &made));
    return functions;
}

static kr_table make_table(kr_worker *worker, uint16_t id, uint32_t value_type, uint32_t width, const char *function)
{
    kr_table_spec spec;
    kr_table table;
    OK(kr_table_spec_init(&spec));
    spec.id = id;
    spec.value_type = value_type;
    spec.width = width;
    spec.function = function;
    OK(kr_table_create(worker, &spec, LIMIT_MS, &table));
    return table;
}

static kr_chain *make_chain(const char *filters, uint32_t direction, kr_functions *functions)
{
    kr_chain *chain;
    OK(kr_chain_new(filters, direction, 1, functions, &chain));
    return chain;
}

static kr_options passing(kr_chain *push_chain, kr_chain *pull_chain)
{
    kr_options options;
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.time = 1;
    options.push_chain = push_chain;
    options.pull_chain = pull_chain;
    return options;
}

static double at_most(double value, double limit) { return value < limit ? value : limit; }

/* Pushes and pulls of rows of two floats through chains of our own, with every worker pushing the same; the table counts them. */
static void both_ways(kr_worker *worker, kr_functions *functions)
{
    kr_chain *push = make_chain("user:clip:10,user:even,lz4", KR_PUSH, functions);
    kr_chain *pull = make_chain("key-cache,user:clip:15", KR_PULL, functions), *rest = make_chain("user:even,zeros", KR_PULL, functions);
    kr_table table = make_table(worker, 1, KR_F32, 2, NULL);
    kr_select range = {NULL, 0, KEYS - 1}, list = {NULL, 0, 0};
    float pushed[2 * KEYS], got[2 * KEYS];
    uint64_t keys[KEYS];
    const void *parts[1];
    kr_options options = passing(push, NULL);
    kr_worker_info info;
    kr_task task;
    int key, again;
    parts[0] = pushed;
    info.size = sizeof info;
    OK(kr_worker_describe(worker, &info));
    for (key = 0; key < KEYS; key++) {
        keys[key] = (uint64_t)key;
        pushed[2 * key] = (float)(key - 50);
        pushed[2 * key + 1] = 0.5f;
    }
    OK(kr_keys_new(keys, KEYS, &list.list));
    OK(kr_push(worker, table, range, parts, 1, 2 * KEYS, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_push(worker, table, list, parts, 1, 2 * KEYS, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_barrier(worker, "pushed", LIMIT_MS));
    EXPECT(pushed[2 * KEYS - 2] == KEYS - 51); /* the caller's array is left as it is */
    OK(kr_pull(worker, table, range, got, 2 * KEYS, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    for (key = 0; key < KEYS; key++) {
        EXPECT(got[2 * key] == (key % 2 ? 0 : 2 * info.workers * at_most(key - 50, 10)));
        EXPECT(got[2 * key + 1] == (key % 2 ? 0 : (float)info.workers));
    }
    options = passing(NULL, pull);
    for (again = 0; again < 3; again++) { /* the servers know the list's rows only from the second time on */
        OK(kr_pull(worker, table, again ? list : range, got, 2 * KEYS, &options, &task));
        OK(kr_wait(worker, task, LIMIT_MS));
        for (key = 0; key < KEYS; key++)
            EXPECT(got[2 * key] == (key % 2 ? 0 : at_most(2 * info.workers * at_most(key - 50, 10), 15)));
    }
    OK(kr_barrier(worker, "pulled", LIMIT_MS));
    options = passing(NULL, NULL);
    pushed[0] = 1000;
    OK(kr_push(worker, table, range, parts, 1, 2 * KEYS, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    options = passing(NULL, rest);
    OK(kr_pull(worker, table, range, got, 2 * KEYS, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    for (key = 1; key < KEYS; key += 2)
        EXPECT(got[2 * key] == 0 && got[2 * key + 1] == 0 && got[2 * key - 1] > 0);
    OK(kr_keys_free(list.list));
    OK(kr_chain_free(push));
    OK(kr_chain_free(pull));
    OK(kr_chain_free(rest));
}

#endif
