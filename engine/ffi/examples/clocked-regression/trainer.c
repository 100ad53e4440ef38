/* Linear regression in C99 with bounded staleness: each worker steps by itself, and what it reads of the others' steps is at most
 * so many clocks old.
 *
 *     trainer [STALENESS [EAGER]]        default: 2 clocks, eager 1; STALENESS may be "unbounded"
 *
 * A clock is one minibatch: fetch its weights (waiting only if they are too old), compute, add the step, close the clock. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keyrange.h"

enum { WORKERS = 2, FEATURES = 200, ROWS = 1024, ROW_VALUES = 8, BATCH_ROWS = 32, BATCHES = ROWS / BATCH_ROWS, EPOCHS = 30, WAIT_MS = 60000 };

#define CHECK(call)                                            \
    do {                                                       \
        if ((call) != KR_OK) {                                 \
            fprintf(stderr, "%s: %s\n", #call, kr_last_error()); \
            exit(1);                                           \
        }                                                      \
    } while (0)

typedef struct {
    uint64_t feature[ROW_VALUES]; /* its key */
    float value[ROW_VALUES];
    float target;
} row;

static kr_clocked_config config;
static row rows[WORKERS][ROWS];
static double last_error[WORKERS];

/* Numbers from 0 to 1, the same on every machine. */
static double uniform(void)
{
    static uint64_t state = 12345;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) / 9007199254740992.0;
}

static void make_rows(void)
{
    float truth[FEATURES];
    int of, at, value;
    for (at = 0; at < FEATURES; at++)
        truth[at] = (float)(2 * uniform() - 1);
    for (of = 0; of < WORKERS; of++)
        for (at = 0; at < ROWS; at++)
            for (value = 0; value < ROW_VALUES; value++) {
                row *made = &rows[of][at];
                made->feature[value] = (uint64_t)(uniform() * FEATURES);
                made->value[value] = (float)(2 * uniform() - 1);
                made->target += truth[made->feature[value]] * made->value[value];
            }
}

/* One clock: the steps of a minibatch; returns its sum of squared errors. */
static double step(kr_worker *worker, kr_clocked *weights, const row *batch)
{
    const float rate = 0.05f;
    uint64_t keys[BATCH_ROWS * ROW_VALUES];
    double errors = 0;
    int at, value;
    for (at = 0; at < BATCH_ROWS; at++)
        memcpy(&keys[at * ROW_VALUES], batch[at].feature, sizeof batch[at].feature);
    CHECK(kr_clocked_fetch(worker, weights, keys, BATCH_ROWS * ROW_VALUES, WAIT_MS));
    for (at = 0; at < BATCH_ROWS; at++) {
        float weight, error = -batch[at].target, deltas[ROW_VALUES];
        for (value = 0; value < ROW_VALUES; value++) {
            CHECK(kr_clocked_get(worker, weights, batch[at].feature[value], &weight));
            error += weight * batch[at].value[value];
        }
        for (value = 0; value < ROW_VALUES; value++)
            deltas[value] = -rate * error * batch[at].value[value];
        /* The rows that follow read this at once; the other worker once the clock is closed. */
        CHECK(kr_clocked_batch_inc(worker, weights, batch[at].feature, ROW_VALUES, deltas));
        errors += (double)error * error;
    }
    CHECK(kr_clocked_close(worker, weights, WAIT_MS));
    return errors;
}

static void *train(void *given)
{
    kr_worker *worker = (kr_worker *)given;
    kr_worker_info info = {sizeof(kr_worker_info), 0, 0, 0, 0, 0, 0};
    kr_clocked_stats stats = {sizeof(kr_clocked_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    kr_table_spec spec;
    kr_table table;
    kr_clocked *weights;
    int epoch, at;
    CHECK(kr_worker_describe(worker, &info));
    CHECK(kr_table_spec_init(&spec)); /* sparse, float, w += what is pushed */
    spec.name = "weights";
    spec.aggregation = KR_CLOCKED;
    CHECK(kr_table_create(worker, &spec, WAIT_MS, &table));
    CHECK(kr_clocked_open(worker, table, &config, &weights));
    for (epoch = 0; epoch < EPOCHS; epoch++) {
        double errors = 0;
        for (at = 0; at < BATCHES; at++)
            errors += step(worker, weights, &rows[info.rank][at * BATCH_ROWS]);
        last_error[info.rank] = errors / ROWS;
    }
    CHECK(kr_clocked_flush(worker, weights, WAIT_MS));
    CHECK(kr_clocked_describe(worker, weights, &stats));
    printf("worker %u: error %.3g after %llu clocks; reads %.2f clocks behind on average, %llu at most; %.3f s waited\n", (unsigned)info.rank,
           last_error[info.rank], (unsigned long long)stats.clock, stats.mean_behind, (unsigned long long)stats.most_behind, stats.waited_s);
    CHECK(kr_clocked_free(weights));
    CHECK(kr_worker_finish(worker, WAIT_MS));
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[WORKERS];
    kr_cluster *cluster;
    kr_worker *worker;
    kr_job job;
    int at;
    CHECK(kr_abi_check(KR_ABI_VERSION));
    CHECK(kr_clocked_config_init(&config));
    if (argc > 1 && strcmp(argv[1], "unbounded") != 0 && strspn(argv[1], "0123456789") != strlen(argv[1])) {
        fprintf(stderr, "usage: trainer [STALENESS [EAGER]]: expected a number of clocks from 0, or unbounded, got %s\n", argv[1]);
        return 2;
    }
    config.staleness = argc < 2 ? 2 : strcmp(argv[1], "unbounded") == 0 ? KR_UNBOUNDED : (uint64_t)strtoull(argv[1], NULL, 10);
    config.eager = argc < 3 ? 1 : (uint32_t)strtoul(argv[2], NULL, 10);
    make_rows();
    CHECK(kr_job_init(&job, 1, WORKERS));
    job.last_key = FEATURES - 1;
    CHECK(kr_cluster_start(&job, NULL, &cluster));
    for (at = 0; at < WORKERS; at++) {
        CHECK(kr_cluster_worker(cluster, (uint32_t)at, &worker));
        if (pthread_create(&threads[at], NULL, train, worker) != 0)
            return 1;
    }
    for (at = 0; at < WORKERS; at++)
        pthread_join(threads[at], NULL);
    CHECK(kr_cluster_join(cluster));
    return last_error[0] < 0.01 && last_error[1] < 0.01 ? 0 : 1;
}
