/* Linear regression in C99: minibatches of sparse rows, weights on the servers, SGD there.
 *
 *     trainer             a whole job in this process: two server threads, this worker
 *     trainer ADDRESS     joins the job whose manager listens at ADDRESS ("tcp:127.0.0.1:7000")
 *
 * Each batch knows its keys: they become a kr_keys once, and from the second epoch on a pull or push sends 16 bytes for them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "keyrange.h"

enum { FEATURES = 1000, ROWS = 4096, ROW_VALUES = 12, BATCH_ROWS = 64, BATCHES = ROWS / BATCH_ROWS, EPOCHS = 20, WAIT_MS = 60000 };

#define CHECK(call)                                            \
    do {                                                       \
        if ((call) != KR_OK) {                                 \
            fprintf(stderr, "%s: %s\n", #call, kr_last_error()); \
            exit(1);                                           \
        }                                                      \
    } while (0)

typedef struct {
    uint32_t feature[ROW_VALUES];
    float value[ROW_VALUES];
    float target;
} row;

/* The rows of a batch, with features counted from 0 within the batch. */
typedef struct {
    row *rows;
    kr_keys *keys;
    size_t count;
} batch;

static row rows[ROWS];
static batch batches[BATCHES];
static float weights[FEATURES], gradient[FEATURES];

/* Numbers from 0 to 1, the same on every machine. */
static double uniform(void)
{
    static uint64_t state = 12345;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 9007199254740992.0;
}

/* The key of a feature. Keys can be any numbers, such as hashes; here they are spread over the whole key space, and rise. */
static uint64_t key_of(uint32_t feature)
{
    return (uint64_t)feature * (UINT64_MAX / FEATURES);
}

static void make_rows(void)
{
    float truth[FEATURES];
    int at, value;
    for (at = 0; at < FEATURES; at++)
        truth[at] = (float)(2 * uniform() - 1);
    for (at = 0; at < ROWS; at++) {
        for (value = 0; value < ROW_VALUES; value++) {
            rows[at].feature[value] = (uint32_t)(uniform() * FEATURES);
            rows[at].value[value] = (float)(2 * uniform() - 1);
            rows[at].target += truth[rows[at].feature[value]] * rows[at].value[value];
        }
    }
}

/* Collects the features of a batch, in order and once each, and numbers them anew. */
static void make_batch(batch *made, row *first)
{
    static uint32_t place[FEATURES];
    uint64_t keys[FEATURES];
    uint32_t feature;
    int at, value;
    for (feature = 0; feature < FEATURES; feature++)
        place[feature] = UINT32_MAX;
    for (at = 0; at < BATCH_ROWS; at++)
        for (value = 0; value < ROW_VALUES; value++)
            place[first[at].feature[value]] = 0;
    made->rows = first;
    made->count = 0;
    for (feature = 0; feature < FEATURES; feature++) {
        if (place[feature] == 0) {
            keys[made->count] = key_of(feature);
            place[feature] = (uint32_t)made->count++;
        }
    }
    for (at = 0; at < BATCH_ROWS; at++)
        for (value = 0; value < ROW_VALUES; value++)
            first[at].feature[value] = place[first[at].feature[value]];
    CHECK(kr_keys_new(keys, made->count, &made->keys));
}

/* The gradient of the mean squared error over the batch; returns the sum of squared errors. */
static double derive(const batch *of)
{
    double errors = 0;
    size_t feature;
    int at, value;
    for (feature = 0; feature < of->count; feature++)
        gradient[feature] = 0;
    for (at = 0; at < BATCH_ROWS; at++) {
        const row *one = &of->rows[at];
        float error = -one->target;
        for (value = 0; value < ROW_VALUES; value++)
            error += weights[one->feature[value]] * one->value[value];
        for (value = 0; value < ROW_VALUES; value++)
            gradient[one->feature[value]] += 2 * error * one->value[value] / BATCH_ROWS;
        errors += (double)error * error;
    }
    return errors;
}

/* One pass over the batches; returns the mean squared error, each batch with the weights it met. */
static double epoch(kr_worker *worker, kr_table table)
{
    const void *parts[1];
    double errors = 0;
    int at;
    parts[0] = gradient;
    for (at = 0; at < BATCHES; at++) {
        kr_select which = {NULL, 0, 0};
        kr_task pull, push;
        which.list = batches[at].keys;
        CHECK(kr_pull(worker, table, which, weights, batches[at].count, NULL, &pull));
        CHECK(kr_wait(worker, pull, WAIT_MS));
        errors += derive(&batches[at]);
        CHECK(kr_push(worker, table, which, parts, 1, batches[at].count, NULL, &push));
        CHECK(kr_wait(worker, push, WAIT_MS)); /* until then the gradient is the library's */
    }
    return errors / ROWS;
}

int main(int argc, char **argv)
{
    kr_cluster *cluster = NULL;
    kr_worker *worker;
    kr_table_spec spec;
    kr_table table;
    double error = 0;
    int at;

    CHECK(kr_abi_check(KR_ABI_VERSION));
    if (argc > 1) {
        kr_member member;
        CHECK(kr_member_init(&member, argv[1]));
        CHECK(kr_worker_connect(&member, &worker));
    } else {
        kr_job job;
        CHECK(kr_job_init(&job, 2, 1)); /* two server threads, one worker */
        CHECK(kr_cluster_start(&job, NULL, &cluster));
        CHECK(kr_cluster_worker(cluster, 0, &worker));
    }

    CHECK(kr_table_spec_init(&spec)); /* sparse, float, one value per key */
    spec.name = "weights";
    spec.function = "sgd";
    spec.params_json = "{\"rate\": 1.0}";
    CHECK(kr_table_create(worker, &spec, WAIT_MS, &table));

    make_rows();
    for (at = 0; at < BATCHES; at++)
        make_batch(&batches[at], rows + (size_t)at * BATCH_ROWS);
    for (at = 1; at <= EPOCHS; at++) {
        error = epoch(worker, table);
        printf("epoch %2d: mean squared error %.6f\n", at, error);
    }

    for (at = 0; at < BATCHES; at++)
        CHECK(kr_keys_free(batches[at].keys));
    CHECK(kr_worker_finish(worker, WAIT_MS));
    if (cluster != NULL)
        CHECK(kr_cluster_join(cluster));
    return error < 0.01 ? 0 : 1;
}
