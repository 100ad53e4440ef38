/* A cluster in this process: two servers, two workers on threads of their own; every kind of request. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>

#include "check.h"

enum { KEYS = 1000, LIMIT_MS = 20000 };

static kr_cluster *cluster;
static kr_reply *kept_reply;

/* A server function: w = max(w, value), and column 1 counts the pushes. Negative values are refused. */
static int32_t keep_max(void *context, void *state, void *const *columns, const void *const *parts, size_t values, kr_reply *reply)
{
    float *weights = (float *)columns[0];
    float *counts = (float *)columns[1];
    const float *pushed = (const float *)parts[0];
    size_t at;
    EXPECT(context == &cluster && *(int *)state == 7);
    for (at = 0; at < values; at++) {
        if (pushed[at] < 0) {
            kept_reply = reply;
            OK(kr_reply_write(reply, "a negative value", 16));
            return 42;
        }
    }
    for (at = 0; at < values; at++) {
        if (pushed[at] > weights[at])
            weights[at] = pushed[at];
        counts[at] += 1;
    }
    return 0;
}

/* Combines the pushes of workers: the smaller value counts. Values above 1000 are refused, without a text. */
static int32_t smaller(void *context, void *state, void *const *sums, const void *const *parts, size_t values, kr_reply *reply)
{
    size_t at;
    (void)reply;
    EXPECT(context == &cluster && *(int *)state == 7);
    for (at = 0; at < values; at++) {
        float *sum = (float *)sums[0] + at, value = ((const float *)parts[0])[at];
        if (value > 1000)
            return 43;
        if (value < *sum)
            *sum = value;
    }
    return 0;
}

static void *make_state(void *context, const char *params, kr_reply *reply)
{
    int *state;
    EXPECT(context == &cluster);
    if (strcmp(params, "{\"refuse\":true}") == 0) {
        OK(kr_reply_write(reply, "as asked", 8));
        return NULL;
    }
    state = (int *)malloc(sizeof *state);
    *state = 7;
    return state;
}

static void free_state(void *context, void *state)
{
    EXPECT(context == &cluster);
    free(state);
}

static kr_table make_table(kr_worker *worker, uint16_t id, uint32_t value_type, uint32_t aggregation, const char *function)
{
    kr_table_spec spec;
    kr_table table;
    OK(kr_table_spec_init(&spec));
    spec.id = id;
    spec.name = "test";
    spec.value_type = value_type;
    spec.aggregation = aggregation;
    spec.function = function;
    OK(kr_table_create(worker, &spec, LIMIT_MS, &table));
    EXPECT(table.id == id && table.width == 1 && table.value_type == value_type);
    return table;
}

static void ended(void *context, kr_task task, kr_status status, const char *message)
{
    EXPECT(task != 0 && status == KR_OK && message[0] == '\0');
    ++*(int *)context;
}

static void found(void *context, const uint64_t *keys, size_t count, const void *values)
{
    EXPECT(count == 3 && keys[0] == 1 && keys[1] == 5 && keys[2] == UINT64_MAX);
    EXPECT(((const float *)values)[2] == 4);
    ++*(int *)context;
}

/* Requests of one worker alone: lists, ranges, single keys, callbacks, keys that exist, lent memory. */
static void alone(kr_worker *worker)
{
    kr_table table = make_table(worker, 1, KR_F32, KR_IMMEDIATE, NULL);
    const uint64_t keys[3] = {1, 5, UINT64_MAX};
    const float ones[3] = {1, 2, 4};
    const void *parts[1] = {ones};
    float got[5] = {9, 9, 9, 9, 9};
    kr_select which = {NULL, 0, 0}, range = {NULL, 1, 5}, all = {NULL, 0, UINT64_MAX};
    kr_options options = {sizeof(kr_options), 0, NULL, 0, 0, 0, NULL, NULL, 0, NULL, NULL};
    kr_task task, second;
    int calls = 0;
    OK(kr_keys_new(keys, 3, &which.list));
    OK(kr_push(worker, table, which, parts, 1, 3, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_wait(worker, task, LIMIT_MS)); /* told before: ended well */
    OK(kr_pull(worker, table, which, got, 3, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 1 && got[1] == 2 && got[2] == 4 && got[3] == 9);
    OK(kr_pull(worker, table, range, got, 5, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 1 && got[1] == 0 && got[4] == 2);

    OK(kr_push_one(worker, table, 7, ones, LIMIT_MS, &task));
    OK(kr_push_one(worker, table, 7, ones, LIMIT_MS, NULL));
    OK(kr_wait_below(worker, 0, LIMIT_MS));
    which.first = 0;
    OK(kr_keys_free(which.list));
    which.list = NULL;
    which.first = which.last = 7;
    OK(kr_push_pull(worker, table, which, parts, 1, got, 1, NULL, &task));
    options.after = &task;
    options.after_count = 1;
    options.callback = ended;
    options.context = &calls;
    OK(kr_push(worker, table, which, parts, 1, 1, &options, &second));
    while (calls == 0)
        OK(kr_poll(worker));
    EXPECT(calls == 1 && kr_test(worker, task) == KR_OK && got[0] == 3);

    OK(kr_table_drop(worker, table, LIMIT_MS));
    table = make_table(worker, 1, KR_F32, KR_IMMEDIATE, "assign");
    OK(kr_keys_new(keys, 3, &which.list));
    OK(kr_push(worker, table, which, parts, 1, 3, NULL, &task));
    OK(kr_pull_existing(worker, table, all, NULL, &second)); /* to the same servers, so in this order */
    OK(kr_wait_found(worker, second, LIMIT_MS, found, &calls));
    EXPECT(calls == 2);
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_keys_free(which.list));
}

/* Pushed from lent memory, a dense range arrives without crossing the rings. */
static void lent(kr_worker *worker)
{
    kr_table table = make_table(worker, 2, KR_F64, KR_IMMEDIATE, NULL);
    kr_worker_info before = {sizeof(kr_worker_info), 0, 0, 0, 0, 0, 0}, after = before;
    kr_select range = {NULL, 0, 9999};
    double *values, *got = (double *)malloc(10000 * sizeof(double));
    void *memory;
    const void *parts[1];
    kr_task task;
    int at;
    OK(kr_alloc(worker, 10001 * sizeof(double), &memory));
    values = (double *)memory + 1; /* any part of it */
    for (at = 0; at < 10000; at++)
        values[at] = at * 0.5;
    parts[0] = values;
    OK(kr_worker_describe(worker, &before));
    OK(kr_push(worker, table, range, parts, 1, 10000, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_worker_describe(worker, &after));
    EXPECT(after.sent_bytes - before.sent_bytes < 10000);
    OK(kr_pull(worker, table, range, got, 10000, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(memcmp(got, values, 10000 * sizeof(double)) == 0);
    OK(kr_free(worker, memory));
    SAYS(KR_INVALID, "kr_alloc", kr_free(worker, memory));
    free(got);
}

/* Answers "echo" with its arguments twice, and nothing else. */
static int32_t answer(void *context, void *state, const char *verb, const void *arguments, size_t bytes, kr_reply *reply)
{
    EXPECT(context == &cluster && state != NULL);
    if (strcmp(verb, "lend") == 0) {
        OK(kr_reply_write(reply, arguments, bytes));
        OK(kr_reply_lend(reply, "echo", 4, NULL, NULL));
        SAYS(KR_MISUSE, "its end already", kr_reply_lend(reply, "echo", 4, NULL, NULL));
        SAYS(KR_MISUSE, "no more bytes", kr_reply_write(reply, "echo", 4));
        return 0;
    }
    if (strcmp(verb, "echo") != 0) {
        OK(kr_reply_write(reply, "only echo", 9));
        return 1;
    }
    OK(kr_reply_write(reply, arguments, bytes));
    OK(kr_reply_write(reply, arguments, bytes));
    return 0;
}

static void echoed(void *context, uint32_t shard, const void *reply, size_t bytes)
{
    EXPECT(bytes == 8 && memcmp(reply, "echoecho", 8) == 0);
    *(uint32_t *)context += 1 + shard;
}

static void calls(kr_worker *worker, kr_table table)
{
    kr_task task;
    uint32_t sum = 0;
    OK(kr_call(worker, table, KR_ALL_SHARDS, "echo", "echo", 4, NULL, &task));
    OK(kr_wait_replies(worker, task, LIMIT_MS, echoed, &sum));
    EXPECT(sum == 3);
    OK(kr_call(worker, table, 1, "sing", NULL, 0, NULL, &task));
    SAYS(KR_REFUSED, "only echo", kr_wait_replies(worker, task, LIMIT_MS, echoed, &sum));
    const kr_bytes parts[] = {{"ec", 2}, {NULL, 0}, {"ho", 2}}, none[] = {{NULL, 1}};
    sum = 0;
    OK(kr_call_in_place(worker, table, KR_ALL_SHARDS, "lend", parts, 3, echoed, &sum, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(sum == 3);
    SAYS(KR_INVALID, "visit", kr_call_in_place(worker, table, 0, "lend", parts, 3, NULL, NULL, NULL, &task));
    SAYS(KR_INVALID, "a part", kr_call_in_place(worker, table, 0, "lend", none, 1, echoed, &sum, NULL, &task));
}

/* What a server function refuses is told with its number and its text, and changes nothing. */
static void refused(kr_worker *worker, kr_table table)
{
    float values[4] = {50, 50, -1, 50}, got[4];
    const void *parts[1];
    kr_select range = {NULL, 0, 3};
    kr_task task;
    parts[0] = values;
    OK(kr_push(worker, table, range, parts, 1, 4, NULL, &task));
    SAYS(KR_REFUSED, "a negative value (code 42)", kr_wait(worker, task, LIMIT_MS));
    OK(kr_push_pull(worker, table, range, parts, 1, got, 4, NULL, &task));
    SAYS(KR_REFUSED, "a negative value (code 42)", kr_wait(worker, task, LIMIT_MS));
    SAYS(KR_MISUSE, "during that call", kr_reply_write(kept_reply, "late", 4));
    SAYS(KR_MISUSE, "during that call", kr_reply_write(NULL, "none", 4));
    OK(kr_pull(worker, table, range, got, 4, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 2 && got[3] == 8);
}

/* Two workers push; the function aggregates. */
static void aggregated(kr_worker *worker, uint32_t rank)
{
    kr_table table = make_table(worker, 6, KR_F32, KR_ALL_WORKERS, "smaller");
    float values[2] = {5, 9}, got[2];
    const void *parts[1];
    kr_select range = {NULL, 0, 1};
    kr_options options = {sizeof(kr_options), 1, NULL, 0, 0, 0, NULL, NULL, 0, NULL, NULL};
    kr_task task;
    parts[0] = values;
    values[rank] += 100;
    OK(kr_push_pull(worker, table, range, parts, 1, got, 2, &options, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[0] == 5 && got[1] == 9);
    values[0] = rank == 0 ? 2000.0f : 900.0f;
    options.time = 2;
    OK(kr_push(worker, table, range, parts, 1, 2, &options, &task));
    SAYS(KR_REFUSED, "code 43", kr_wait(worker, task, LIMIT_MS));
    values[0] = -1;
    options.time = 3;
    OK(kr_push(worker, table, range, parts, 1, 2, &options, &task));
    SAYS(KR_REFUSED, "a negative value", kr_wait(worker, task, LIMIT_MS));
}

static void compared(void)
{
    const uint64_t same[] = {1, 5, 9}, other[] = {1, 6, 9}, run[] = {UINT64_MAX - 2, UINT64_MAX - 1, UINT64_MAX}, gap[] = {1, 2, 3};
    kr_keys *list;
    int32_t is_equal = 2;
    OK(kr_keys_new(same, 3, &list));
    OK(kr_keys_equal(list, same, 3, &is_equal));
    EXPECT(is_equal == 1);
    OK(kr_keys_equal(list, other, 3, &is_equal));
    EXPECT(is_equal == 0);
    OK(kr_keys_equal(list, same, 2, &is_equal));
    EXPECT(is_equal == 0);
    OK(kr_keys_free(list));
    OK(kr_keys_new(run, 3, &list));
    OK(kr_keys_equal(list, run, 3, &is_equal));
    EXPECT(is_equal == 1);
    OK(kr_keys_equal(list, gap, 3, &is_equal));
    EXPECT(is_equal == 0);
    OK(kr_keys_free(list));
    SAYS(KR_MISUSE, "freed", kr_keys_equal(list, same, 3, &is_equal));
}

static void *work(void *rank)
{
    kr_worker *worker;
    kr_worker_info info = {sizeof(kr_worker_info), 0, 0, 0, 0, 0, 0};
    kr_options options = {sizeof(kr_options), 0, NULL, 0, 0, 0, NULL, NULL, 0, NULL, NULL};
    kr_select range = {NULL, 0, KEYS - 1};
    float pushed[KEYS], got[KEYS];
    const void *parts[1];
    kr_table sums, maxima;
    kr_task task;
    int at;
    OK(kr_cluster_worker(cluster, *(uint32_t *)rank, &worker));
    OK(kr_worker_describe(worker, &info));
    EXPECT(info.rank == *(uint32_t *)rank && info.workers == 2 && info.shards == 2);
    if (info.rank == 0) {
        alone(worker);
        lent(worker);
    }
    OK(kr_barrier(worker, "begin", LIMIT_MS));
    sums = make_table(worker, 3, KR_F32, KR_ALL_WORKERS, "add");
    for (at = 0; at < KEYS; at++)
        pushed[at] = (float)(at + 1) * (float)(info.rank + 1);
    parts[0] = pushed;
    for (options.time = 1; options.time <= 5; options.time++) {
        OK(kr_push_pull(worker, sums, range, parts, 1, got, KEYS, &options, &task));
        OK(kr_wait(worker, task, LIMIT_MS));
        for (at = 0; at < KEYS; at++)
            EXPECT(got[at] == 3.0f * (float)(at + 1) * (float)options.time);
    }
    maxima = make_table(worker, 4, KR_F32, KR_IMMEDIATE, "keep_max");
    OK(kr_push(worker, maxima, range, parts, 1, KEYS, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    OK(kr_barrier(worker, "pushed", LIMIT_MS));
    OK(kr_pull(worker, maxima, range, got, KEYS, NULL, &task));
    OK(kr_wait(worker, task, LIMIT_MS));
    EXPECT(got[9] == 20);
    calls(worker, maxima);
    refused(worker, maxima);
    aggregated(worker, info.rank);
    if (info.rank == 1) {
        kr_table_spec spec;
        OK(kr_table_spec_init(&spec));
        spec.id = 5;
        spec.function = "keep_max";
        spec.params_json = "{\"refuse\": true}";
        SAYS(KR_REFUSED, "as asked", kr_table_create(worker, &spec, LIMIT_MS, &sums));
    }
    OK(kr_worker_finish(worker, LIMIT_MS));
    return NULL;
}

int main(void)
{
    kr_functions *functions;
    kr_function function;
    kr_job job;
    pthread_t threads[2];
    uint32_t ranks[2] = {0, 1};
    double neutral[1] = {1e30};
    int rank;
    OK(kr_abi_check(KR_ABI_VERSION));
    STATUS(KR_INVALID, kr_abi_check(KR_ABI_VERSION + 1));
    compared();
    OK(kr_functions_new(&functions));
    memset(&function, 0, sizeof function);
    function.size = sizeof function;
    function.name = "keep_max";
    function.value_type = KR_F32;
    function.state_columns = 1;
    function.create = make_state;
    function.destroy = free_state;
    function.update = keep_max;
    function.call = answer;
    function.context = &cluster;
    OK(kr_functions_add(functions, &function));
    function.name = "smaller";
    function.neutral = neutral;
    function.aggregate = smaller;
    OK(kr_functions_add(functions, &function));
    function.apply_each = 1;
    SAYS(KR_INVALID, "apply_each", kr_functions_add(functions, &function));
    OK(kr_job_init(&job, 2, 2));
    job.last_key = KEYS - 1;
    OK(kr_cluster_start(&job, functions, &cluster));
    OK(kr_functions_free(functions));
    for (rank = 0; rank < 2; rank++)
        pthread_create(&threads[rank], NULL, work, &ranks[rank]);
    for (rank = 0; rank < 2; rank++)
        pthread_join(threads[rank], NULL);
    OK(kr_cluster_join(cluster));
    puts("embedded: all as expected");
    return 0;
}
